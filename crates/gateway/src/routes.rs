//! Which API and which of its routes a request belongs to.
//!
//! Compiled once per catalog. A host beats none, then the longest prefix on a segment's edge;
//! within an API a literal segment beats a parameter, from the left, and `{rest...}` comes last.
//! Segments are compared as raw bytes; there is no pattern language, so that matching costs at
//! most one visit of each node of the API's tree.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_model::{Api, Catalog, Label, Route, Segment, Unlisted};

use crate::metrics::{ApiMetrics, Metrics};

/// What of a catalog requests are matched against.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    /// By host, then longest prefix first.
    hosts: HashMap<String, Vec<Arc<ApiRoutes>>>,
    /// APIs without a host, longest prefix first.
    any_host: Vec<Arc<ApiRoutes>>,
}

/// One API, ready to match.
#[derive(Debug)]
pub(crate) struct ApiRoutes {
    /// The API itself.
    pub(crate) api: Arc<Api>,
    /// The prefix without a slash at its end; empty for `/`.
    prefix: String,
    /// What paths are metered as that no route lists.
    unlisted: Arc<str>,
    /// The tree of templates; node 0 is the root.
    nodes: Vec<Node>,
    /// Names and labels of the routes, by index.
    faces: Vec<RouteFace>,
    /// Its figures.
    pub(crate) metrics: ApiMetrics,
}

/// What records show of a route.
#[derive(Debug)]
struct RouteFace {
    template: Arc<str>,
    labels: Vec<Label>,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, usize>,
    parameter: Option<usize>,
    /// Routes that end here, in the order declared.
    routes: Vec<usize>,
    /// Routes whose `{rest...}` begins here.
    rest_routes: Vec<usize>,
}

/// A matched request.
#[derive(Debug, Clone)]
pub(crate) struct RouteMatch {
    owner: Arc<ApiRoutes>,
    /// Index of the route; `None`: unlisted.
    index: Option<usize>,
}

/// Why no route was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteError {
    /// The API refuses paths that it does not list.
    Unlisted,
    /// The path is listed, the method is not; these are.
    Method(Vec<String>),
}

impl RouteMatch {
    /// The API.
    pub(crate) fn api(&self) -> &Arc<Api> {
        &self.owner.api
    }

    /// The route, if a listed one.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.index.and_then(|n| self.owner.api.routes.get(n))
    }

    /// What the request is metered as.
    pub(crate) fn name(&self) -> &Arc<str> {
        self.face().map_or(&self.owner.unlisted, |f| &f.template)
    }

    /// Labels of its event.
    pub(crate) fn labels(&self) -> &[Label] {
        self.face().map_or(&[], |f| f.labels.as_slice())
    }

    /// Index of the route within its API; `None`: unlisted.
    pub(crate) fn index(&self) -> Option<usize> {
        self.index
    }

    /// The API, compiled.
    pub(crate) fn owner(&self) -> &Arc<ApiRoutes> {
        &self.owner
    }

    /// Whether no key is asked.
    pub(crate) fn open(&self) -> bool {
        self.route().is_some_and(|r| r.open)
    }

    fn face(&self) -> Option<&RouteFace> {
        self.index.and_then(|n| self.owner.faces.get(n))
    }
}

impl RouteTable {
    /// Compiles the catalog's APIs.
    pub(crate) fn compile(catalog: &Catalog, metrics: &Metrics) -> Self {
        let mut table = Self::default();
        for api in catalog.apis.values() {
            let compiled = Arc::new(ApiRoutes::compile(api, metrics.of_api(&api.id)));
            match &api.host {
                Some(host) => table.hosts.entry(host.clone()).or_default().push(compiled),
                None => table.any_host.push(compiled),
            }
        }
        let lists = table
            .hosts
            .values_mut()
            .chain(std::iter::once(&mut table.any_host));
        for list in lists {
            list.sort_by(|a, b| {
                (b.prefix.len(), a.api.id.as_str()).cmp(&(a.prefix.len(), b.api.id.as_str()))
            });
        }
        table
    }

    /// The API of a host (lower case, no port) and path.
    pub(crate) fn find_api(&self, host: &str, path: &str) -> Option<&Arc<ApiRoutes>> {
        let of_host = self.hosts.get(host).map_or(&[][..], Vec::as_slice);
        of_host
            .iter()
            .find(|a| a.holds(path))
            .or_else(|| self.any_host.iter().find(|a| a.holds(path)))
    }
}

impl ApiRoutes {
    fn compile(api: &Arc<Api>, metrics: ApiMetrics) -> Self {
        let prefix = api.path_prefix.trim_end_matches('/').to_owned();
        let mut nodes = vec![Node::default()];
        for (index, route) in api.routes.iter().enumerate() {
            insert(&mut nodes, &route.template.segments, index);
        }
        let faces = api.routes.iter().map(RouteFace::of).collect();
        Self {
            unlisted: Arc::from(format!("{prefix}/*")),
            api: Arc::clone(api),
            prefix,
            nodes,
            faces,
            metrics,
        }
    }

    fn holds(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The route of a path and method. A path matches by its most literal template that takes the
    /// method; where only the method is wrong, the methods of all templates that match are told.
    pub(crate) fn find_route(
        self: &Arc<Self>,
        path: &str,
        method: &str,
    ) -> Result<RouteMatch, RouteError> {
        let mut search = Search {
            owner: self,
            method,
            methods: Vec::new(),
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        if let Some(index) = search.descend(0, Some(path)) {
            return Ok(self.matched(Some(index)));
        }
        if !search.methods.is_empty() {
            return Err(RouteError::Method(search.methods));
        }
        match self.api.unlisted {
            Unlisted::Pass => Ok(self.matched(None)),
            Unlisted::Refuse => Err(RouteError::Unlisted),
        }
    }

    /// The API's unlisted paths as a match, for questions without a path.
    pub(crate) fn matched(self: &Arc<Self>, index: Option<usize>) -> RouteMatch {
        RouteMatch {
            owner: Arc::clone(self),
            index,
        }
    }
}

impl RouteFace {
    fn of(route: &Route) -> Self {
        let label = |(name, value): (&String, &String)| Label {
            name: Arc::from(name.as_str()),
            value: Arc::from(value.as_str()),
        };
        Self {
            template: Arc::from(route.template.text.as_str()),
            labels: route.labels.iter().map(label).collect(),
        }
    }
}

/// Puts a template into the tree.
fn insert(nodes: &mut Vec<Node>, segments: &[Segment], index: usize) {
    let mut at = 0;
    for segment in segments {
        let next = nodes.len();
        let Some(node) = nodes.get_mut(at) else {
            return;
        };
        let found = match segment {
            Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
            Segment::Parameter(_) => *node.parameter.get_or_insert(next),
            Segment::Rest(_) => {
                node.rest_routes.push(index);
                return;
            }
        };
        if found == next {
            nodes.push(Node::default());
        }
        at = found;
    }
    if let Some(node) = nodes.get_mut(at) {
        node.routes.push(index);
    }
}

struct Search<'a> {
    owner: &'a ApiRoutes,
    method: &'a str,
    /// Methods of templates that match the path alone.
    methods: Vec<String>,
}

impl Search<'_> {
    /// `path` is what is left, without the slash before it; `None`: nothing is left.
    fn descend(&mut self, at: usize, path: Option<&str>) -> Option<usize> {
        let node = self.owner.nodes.get(at)?;
        let Some(path) = path else {
            return self.pick(&node.routes);
        };
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        if let Some(next) = node.literals.get(segment)
            && let Some(found) = self.descend(*next, rest)
        {
            return Some(found);
        }
        if let Some(next) = node.parameter.filter(|_| !segment.is_empty())
            && let Some(found) = self.descend(next, rest)
        {
            return Some(found);
        }
        self.pick(&node.rest_routes)
    }

    fn pick(&mut self, routes: &[usize]) -> Option<usize> {
        for index in routes {
            let route = self.owner.api.routes.get(*index)?;
            if takes(route, self.method) {
                return Some(*index);
            }
            for method in allowed(route) {
                if !self.methods.contains(&method) {
                    self.methods.push(method);
                }
            }
        }
        None
    }
}

/// Whether the route takes the method: exact bytes, `HEAD` follows `GET`.
fn takes(route: &Route, method: &str) -> bool {
    let listed = |m: &str| route.methods.iter().any(|own| own == m);
    route.methods.is_empty() || listed(method) || (method == "HEAD" && listed("GET"))
}

fn allowed(route: &Route) -> Vec<String> {
    let mut methods = route.methods.clone();
    if methods.iter().any(|m| m == "GET") && !methods.iter().any(|m| m == "HEAD") {
        methods.push("HEAD".to_owned());
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{api, catalog_of, route};

    fn compiled(apis: Vec<Api>) -> RouteTable {
        RouteTable::compile(&catalog_of(apis), &Metrics::default())
    }

    fn name_of(table: &RouteTable, host: &str, method: &str, path: &str) -> String {
        let Some(found) = table.find_api(host, path) else {
            return "no api".to_owned();
        };
        match found.find_route(path, method) {
            Ok(m) => format!("{} {}", m.api().id, m.name()),
            Err(RouteError::Unlisted) => "unlisted".to_owned(),
            Err(RouteError::Method(methods)) => format!("405 {}", methods.join(",")),
        }
    }

    #[test]
    fn a_host_beats_none_and_the_longest_prefix_wins_on_a_segments_edge() {
        let table = compiled(vec![
            api("root", "/", vec![]),
            api("one", "/v1", vec![]),
            api("deep", "/v1/deep", vec![]),
            Api {
                host: Some("api.example.com".into()),
                ..api("hosted", "/v1", vec![])
            },
        ]);
        let cases = [
            ("x", "/v1", "one /v1/*"),
            ("x", "/v1/", "one /v1/*"),
            ("x", "/v1/x", "one /v1/*"),
            ("x", "/v10", "root /*"),
            ("x", "/v1/deep/x", "deep /v1/deep/*"),
            ("x", "/v1/deeper", "one /v1/*"),
            ("x", "/V1", "root /*"),
            ("api.example.com", "/v1/deep/x", "hosted /v1/*"),
            ("api.example.com", "/other", "root /*"),
        ];
        for (host, path, expected) in cases {
            assert_eq!(
                name_of(&table, host, "GET", path),
                expected,
                "{host} {path}"
            );
        }
    }

    #[test]
    fn no_api_is_found_outside_every_prefix() {
        let table = compiled(vec![api("one", "/v1", vec![])]);
        assert_eq!(name_of(&table, "x", "GET", "/v2"), "no api");
        assert_eq!(name_of(&table, "x", "GET", "/"), "no api");
    }

    #[test]
    fn literals_come_before_parameters_from_the_left_and_rest_last() {
        let table = compiled(vec![api(
            "a",
            "/",
            vec![
                route("/w/{rest...}", &[]),
                route("/w/{id}", &["GET"]),
                route("/w/special", &["POST"]),
                route("/w/{id}/parts", &["GET"]),
                route("/w/special/{part}", &["GET"]),
                route("/w/list/", &["GET"]),
                route("/only", &["GET", "PUT"]),
            ],
        )]);
        let cases = [
            ("GET", "/w/7", "a /w/{id}"),
            ("HEAD", "/w/7", "a /w/{id}"),
            ("POST", "/w/special", "a /w/special"),
            ("GET", "/w/special", "a /w/{id}"),
            ("GET", "/w/special/parts", "a /w/special/{part}"),
            ("GET", "/w/7/parts", "a /w/{id}/parts"),
            ("GET", "/w/7/other/deep", "a /w/{rest...}"),
            ("GET", "/w/", "a /w/{rest...}"),
            ("GET", "/w", "a /*"),
            ("GET", "/w/list/", "a /w/list/"),
            ("GET", "/w/list", "a /w/{id}"),
            ("DELETE", "/only", "405 GET,PUT,HEAD"),
            ("get", "/only", "405 GET,PUT,HEAD"),
            ("GET", "/only/", "a /*"),
            ("GET", "/W/7", "a /*"),
        ];
        for (method, path, expected) in cases {
            assert_eq!(
                name_of(&table, "", method, path),
                expected,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn unlisted_paths_are_refused_where_the_api_says_so() {
        let strict = Api {
            unlisted: Unlisted::Refuse,
            ..api("a", "/", vec![route("/known", &["GET"])])
        };
        let table = compiled(vec![strict]);
        assert_eq!(name_of(&table, "", "GET", "/unknown"), "unlisted");
        assert_eq!(name_of(&table, "", "GET", "/known"), "a /known");
    }

    #[test]
    fn two_routes_of_one_path_are_told_apart_by_method() {
        let mut dear = route("/x", &["POST"]);
        dear.cost = 5;
        let table = compiled(vec![api("a", "/", vec![route("/x", &["GET"]), dear])]);
        let found = table.find_api("", "/x").unwrap();
        assert_eq!(
            found
                .find_route("/x", "POST")
                .unwrap()
                .route()
                .unwrap()
                .cost,
            5
        );
        assert_eq!(
            found.find_route("/x", "GET").unwrap().route().unwrap().cost,
            1
        );
        assert_eq!(
            found.find_route("/x", "PUT").unwrap_err(),
            RouteError::Method(vec!["GET".into(), "HEAD".into(), "POST".into()])
        );
    }
}
