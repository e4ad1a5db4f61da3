//! Who does something.

use tollgate_store::{AuditEntry, CallAttempt, CallDone, Effects};

use crate::Principal;

/// Who does something, and under which idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actor {
    /// For the audit trail: a token's name, `file:catalog.toml`, `command line`.
    pub name: String,
    /// The call that is done by the act, where it must not be done twice.
    pub call: Option<CallAttempt>,
}

impl Actor {
    /// What commits with an act that is told of by `audit`.
    pub(crate) fn effects(&self, audit: Vec<AuditEntry>) -> Effects {
        let done = |attempt| CallDone {
            attempt,
            did: did(&audit),
        };
        Effects {
            call: self.call.map(done),
            audit,
        }
    }
}

fn did(audit: &[AuditEntry]) -> String {
    match audit {
        [] => "nothing had to change".to_owned(),
        [only] => format!("{} {}", only.action, only.subject),
        [first, more @ ..] => {
            let more = more.len();
            format!("{} {} and {more} more", first.action, first.subject)
        }
    }
}

impl From<&str> for Actor {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            call: None,
        }
    }
}

impl From<&Principal> for Actor {
    fn from(principal: &Principal) -> Self {
        Self::from(principal.name.as_str())
    }
}
