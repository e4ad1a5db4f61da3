SELECT at, actor, action, subject, detail FROM audit ORDER BY n DESC LIMIT $1
