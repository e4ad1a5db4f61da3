//! The reader: where problems are gathered, and how a place in the tree is named.

use std::cell::{Cell, RefCell};

use super::{Document, Field, Node, Position, Problem, ProblemCode, Value};

/// Most problems that one reading tells; what is beyond is counted.
const PROBLEMS_MAX: usize = 200;

/// One step on the way into a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'s> {
    /// Into a field of a table.
    Name(&'s str),
    /// Into an item of an array, from 0.
    Index(usize),
}

/// Reads one document and gathers what is wrong with it.
#[derive(Debug)]
pub struct Reader<'d> {
    pub(super) document: &'d Document,
    problems: RefCell<Vec<Problem>>,
    untold: Cell<usize>,
}

impl<'d> Reader<'d> {
    /// Begins to read.
    #[must_use]
    pub fn new(document: &'d Document) -> Self {
        Self {
            document,
            problems: RefCell::new(Vec::new()),
            untold: Cell::new(0),
        }
    }

    /// The document as a whole.
    #[must_use]
    pub fn root(&self) -> Field<'_> {
        Field::new(self, &self.document.root)
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Adds a problem found elsewhere.
    pub fn report(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem);
        } else {
            self.untold.set(self.untold.get() + 1);
        }
    }

    /// All problems in the order of the text.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let untold = self.untold.get();
        if untold > 0 {
            let detail = format!("{untold} more problems are not listed");
            problems.push(Problem::new("", ProblemCode::Invalid, detail));
        }
        problems
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// All problems, in the order of the text.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        let problems = self.into_problems();
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            // A value is only withheld after a problem was told; say something in any case.
            _ if problems.is_empty() => Err(vec![Problem::new(
                "",
                ProblemCode::Invalid,
                "could not be read",
            )]),
            _ => Err(problems),
        }
    }

    /// Adds a problem of the place `steps` below a node. Naming a place searches the tree from
    /// the top: reading good documents costs nothing for it.
    pub(super) fn report_at(
        &self,
        node: &Node,
        steps: &[Step<'_>],
        at: Option<Position>,
        code: ProblemCode,
        detail: String,
    ) {
        let mut path = Vec::new();
        find(&self.document.root, node, &mut path);
        path.extend_from_slice(steps);
        self.report(Problem {
            field: self.name_of(&path),
            code,
            detail,
            line: at.map(|at| at.line),
            column: at.map(|at| at.column),
        });
    }

    /// `plan "free": quota.units`, or `plan[2].quota.units` where the element has no id.
    fn name_of(&self, path: &[Step<'_>]) -> String {
        let mut name = String::new();
        let mut rest = path;
        if let [Step::Name(list), Step::Index(n), tail @ ..] = path
            && let Some(id) = self.id_of(list, *n)
        {
            name = format!("{list} \"{id}\"");
            rest = tail;
            if !rest.is_empty() {
                name.push_str(": ");
            }
        }
        name.push_str(&path_text(rest));
        name
    }

    fn id_of(&self, list: &str, n: usize) -> Option<&str> {
        let items = child(&self.document.root, Step::Name(list))?;
        let item = child(items, Step::Index(n))?;
        match &child(item, Step::Name("id"))?.value {
            Value::Text(id) => Some(id),
            _ => None,
        }
    }
}

/// A way into a document as text: `route[0].cost`.
pub(crate) fn path_text(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Name(field) if text.is_empty() => text.push_str(field),
            Step::Name(field) => text.push_str(&format!(".{field}")),
            Step::Index(n) => text.push_str(&format!("[{n}]")),
        }
    }
    text
}

/// The part of a node that a step leads to.
pub(super) fn child<'n>(node: &'n Node, step: Step<'_>) -> Option<&'n Node> {
    match (&node.value, step) {
        (Value::Table(entries), Step::Name(name)) => entries
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| &entry.node),
        (Value::Array(items), Step::Index(n)) => items.get(n),
        _ => None,
    }
}

/// The way from a node down to another, which is the same piece of memory.
fn find<'n>(from: &'n Node, to: &Node, path: &mut Vec<Step<'n>>) -> bool {
    if std::ptr::eq(from, to) {
        return true;
    }
    let mut into = |step: Step<'n>, node: &'n Node| {
        path.push(step);
        let found = find(node, to, path);
        if !found {
            path.pop();
        }
        found
    };
    match &from.value {
        Value::Table(entries) => entries
            .iter()
            .any(|entry| into(Step::Name(&entry.name), &entry.node)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .any(|(n, item)| into(Step::Index(n), item)),
        Value::Override { read, .. } => find(read, to, path),
        _ => false,
    }
}
