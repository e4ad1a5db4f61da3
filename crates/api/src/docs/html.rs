//! HTML of the pages: pure functions from text to text. Everything that comes from elsewhere is
//! escaped.

use serde_json::Value;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#1a1f24;background:#fff}h1{font-size:1.6rem}h2{font-size:1.15rem;\
margin-top:2rem}code,pre{font-family:ui-monospace,monospace;font-size:.9em}code{background:#f1f3f5;\
padding:.1em .3em;border-radius:3px}details{border:1px solid #d8dde2;border-radius:6px;\
margin:.4rem 0;padding:.5rem .8rem}summary{cursor:pointer}.m{display:inline-block;min-width:4.2em;\
font-weight:600}.s{color:#5a6570}table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;\
padding:.15rem .8rem .15rem 0;vertical-align:top}a{color:#0b57a4}\
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#14181c}code{background:#242a30}\
details{border-color:#39424a}a{color:#7db7f0}.s{color:#9aa5af}}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Escapes, then sets `code` and **bold**.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (n, part) in text.split('`').enumerate() {
        if n % 2 == 1 {
            out.push_str(&format!("<code>{}</code>", escape(part)));
            continue;
        }
        for (n, piece) in part.split("**").enumerate() {
            if n % 2 == 1 {
                out.push_str(&format!("<strong>{}</strong>", escape(piece)));
            } else {
                out.push_str(&escape(piece));
            }
        }
    }
    out
}

/// What runs here, for whoever opens the address in a browser.
pub(super) fn start_page() -> String {
    page(
        "Tollgate",
        "<h1>Tollgate platform</h1>\
         <p>This is the platform of an API gateway that meters exactly: it keeps keys, plans and \
         subscriptions, and answers what was used.</p>\
         <ul><li><a href=\"/docs\">All calls</a>, and the same as \
         <a href=\"/openapi.json\">OpenAPI 3.1</a></li>\
         <li><a href=\"/docs/errors\">All error codes</a></li></ul>\
         <p>Calls under <code>/api/v1</code> need <code>Authorization: Bearer &lt;token&gt;</code>; \
         <code>tollgate admin token create</code> makes a token.</p>",
    )
}

/// One error code's page.
pub(super) fn error_page(code: &str, text: &str) -> String {
    let mut body = String::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()) {
        match paragraph.strip_prefix("# ") {
            Some(title) => {
                body.push_str(&format!("<h1>{}</h1>", inline(title)));
            }
            None => {
                body.push_str(&format!("<p>{}</p>", inline(&paragraph.replace('\n', " "))));
            }
        }
    }
    body.push_str("<p><a href=\"/docs/errors\">All error codes</a></p>");
    page(code, &body)
}

/// All error codes.
pub(super) fn error_index(pages: &[(&str, &str)]) -> String {
    let mut body = String::from("<h1>Error codes</h1><ul>");
    for (code, _) in pages {
        let code = escape(code);
        body.push_str(&format!(
            "<li><a href=\"/docs/errors/{code}\"><code>{code}</code></a></li>"
        ));
    }
    body.push_str("</ul>");
    page("Error codes", &body)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// All calls of the OpenAPI document.
pub(super) fn calls_page(document: &Value) -> String {
    let mut body = format!(
        "<h1>Calls of the platform</h1><p>{}</p><p><a href=\"/openapi.json\">OpenAPI document</a> \
         · <a href=\"/docs/errors\">error codes</a></p>",
        inline(text(
            document.get("info").unwrap_or(&Value::Null),
            "description"
        ))
    );
    let mut tag = String::new();
    let paths = document.get("paths").and_then(Value::as_object);
    for (path, item) in paths.into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let here = operation
                .get("tags")
                .and_then(|tags| tags.get(0))
                .and_then(Value::as_str)
                .unwrap_or("");
            if here != tag {
                tag = here.to_owned();
                body.push_str(&format!("<h2>{}</h2>", escape(&tag)));
            }
            body.push_str(&call(method, path, operation));
        }
    }
    page("Calls of the platform", &body)
}

fn call(method: &str, path: &str, operation: &Value) -> String {
    let mut out = format!(
        "<details><summary><span class=\"m\">{}</span> <code>{}</code> \
         <span class=\"s\">{}</span></summary>",
        escape(&method.to_uppercase()),
        escape(path),
        escape(text(operation, "summary"))
    );
    out.push_str(&format!(
        "<p>{}</p>",
        inline(text(operation, "description"))
    ));
    let scope = operation
        .get("security")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find_map(|need| need.get(crate::guard::BEARER)?.get(0)?.as_str());
    if let Some(scope) = scope {
        out.push_str(&format!("<p>Scope: <code>{}</code></p>", escape(scope)));
    }
    let parameters = operation.get("parameters").and_then(Value::as_array);
    if let Some(parameters) = parameters.filter(|list| !list.is_empty()) {
        out.push_str("<table><tr><th>parameter</th><th>in</th><th></th></tr>");
        for parameter in parameters {
            out.push_str(&format!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escape(text(parameter, "name")),
                escape(text(parameter, "in")),
                inline(text(parameter, "description"))
            ));
        }
        out.push_str("</table>");
    }
    out.push_str("<table><tr><th>answer</th><th></th></tr>");
    let responses = operation.get("responses").and_then(Value::as_object);
    for (status, response) in responses.into_iter().flatten() {
        out.push_str(&format!(
            "<tr><td>{}</td><td>{}</td></tr>",
            escape(status),
            inline(text(response, "description"))
        ));
    }
    out.push_str("</table></details>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_before_it_is_set() {
        assert_eq!(
            inline("**a** `<b>` <script>"),
            "<strong>a</strong> <code>&lt;b&gt;</code> &lt;script&gt;"
        );
    }

    #[test]
    fn an_error_page_has_its_title_and_paragraphs() {
        let html = error_page("x", "# x\n\nHTTP status 400.\n\n**What.** Some\ntext.\n");
        assert!(html.contains("<h1>x</h1><p>HTTP status 400.</p>"));
        assert!(html.contains("<p><strong>What.</strong> Some text.</p>"));
    }
}
