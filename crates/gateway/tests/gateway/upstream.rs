//! A stub upstream: writes down every request that it parsed, and answers by path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let first = found.next().map(|(_, v)| v.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        first
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    connections: usize,
    closed: usize,
    /// How often held answers were told to go on.
    steps: usize,
}

#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let served = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (served, stream) = (served.clone(), stream.unwrap());
                std::thread::spawn(move || served.serve(stream));
            }
        });
        upstream
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.0.lock().unwrap().seen.clone()
    }

    pub fn connections(&self) -> usize {
        self.state.0.lock().unwrap().connections
    }

    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let (state, changed) = &*self.state;
        let guard = state.lock().unwrap();
        let patience = Duration::from_secs(20);
        let (_guard, late) = changed
            .wait_timeout_while(guard, patience, |s| !until(s))
            .unwrap();
        assert!(!late.timed_out(), "{what}");
    }

    /// Waits until so many requests were parsed.
    pub fn wait_for(&self, count: usize) {
        self.wait("requests at the upstream", |s| s.seen.len() >= count);
    }

    /// Waits until so many connections were closed by the gateway.
    pub fn wait_for_closed(&self, count: usize) {
        self.wait("closed connections", |s| s.closed >= count);
    }

    /// Lets every held answer take its next step.
    pub fn step(&self) {
        self.note(|s| s.steps += 1);
    }

    fn await_step(&self, taken: &mut usize) {
        self.wait("a step", |s| s.steps > *taken);
        *taken += 1;
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }

    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        self.note(|s| s.connections += 1);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(seen) = parse(&mut reader, &mut stream) {
            let mut steps = 0;
            self.note(|s| {
                steps = s.steps;
                s.seen.push(seen.clone());
            });
            let answered = self.answer(&mut stream, &mut reader, &seen, steps);
            if answered.is_none() {
                break;
            }
        }
        let _closed = stream.shutdown(std::net::Shutdown::Both);
        self.note(|s| s.closed += 1);
    }

    /// Answers by path; `None` closes the connection.
    fn answer(
        &self,
        out: &mut TcpStream,
        reader: &mut BufReader<TcpStream>,
        seen: &Seen,
        mut steps: usize,
    ) -> Option<()> {
        let mut say = |text: &str| out.write_all(text.as_bytes()).ok();
        let path = seen.target.split('?').next().unwrap();
        let (_, verb) = path.split_at("/v1/".len().min(path.len()));
        let (verb, rest) = verb.split_once('/').unwrap_or((verb, ""));
        match verb {
            "status" => {
                let length = if rest == "204" || rest == "304" {
                    String::new()
                } else {
                    "content-length: 2\r\n".to_owned()
                };
                let body = if length.is_empty() { "" } else { "ok" };
                say(&format!("HTTP/1.1 {rest} X\r\n{length}\r\n{body}"))
            }
            "chunked" => say(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
            ),
            "trailers" => say(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, tollgate-cost\r\n\r\n\
                 3\r\nabc\r\n0\r\nx-sum: 7\r\ntollgate-cost: 7\r\nx-tollgate-key-id: evil\r\n\r\n",
            ),
            "headers" => say(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: theirs\r\nx-ratelimit-limit: 9\r\n\
                 ratelimit: theirs\r\nx-user-id: theirs\r\ntollgate-label-a: b\r\nconnection: x-hop, keep-alive\r\n\
                 x-hop: 1\r\nx-own: 1\r\n\r\nok",
            ),
            "cost" => say(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntollgate-cost: {rest}\r\n\r\nok"
            )),
            "both-lengths" => say(
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            "nonsense" => {
                say("nonsense\r\n\r\n");
                None
            }
            "break" => {
                say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
                None
            }
            "hang-up" => None,
            "until-close" => {
                say("HTTP/1.1 200 OK\r\n\r\nuntil close");
                None
            }
            "close-after" => {
                say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                None
            }
            "held" => {
                self.await_step(&mut steps);
                say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            }
            "stream" => {
                say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                loop {
                    say("3\r\nabc\r\n")?;
                    self.await_step(&mut steps);
                }
            }
            "silent" => {
                let mut rest = Vec::new();
                let _gone = reader.read_to_end(&mut rest);
                None
            }
            "ws" => self.websocket(out, reader),
            "no-ws" => say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"),
            "head" => say("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n"),
            _ => say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        }
    }

    /// Echoes whatever comes.
    fn websocket(&self, out: &mut TcpStream, reader: &mut BufReader<TcpStream>) -> Option<()> {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        out.write_all(head.as_bytes()).ok()?;
        let mut chunk = [0u8; 1024];
        loop {
            let read = reader.read(&mut chunk).ok()?;
            if read == 0 {
                return None;
            }
            out.write_all(&chunk[..read]).ok()?;
        }
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn headers(reader: &mut BufReader<TcpStream>) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Some(headers);
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

fn parse(reader: &mut BufReader<TcpStream>, out: &mut TcpStream) -> Option<Seen> {
    let request = line(reader)?;
    let mut parts = request.split(' ');
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let headers = headers(reader)?;
    let mut seen = Seen {
        method,
        target,
        headers,
        body: Vec::new(),
        trailers: Vec::new(),
    };
    if seen.target.starts_with("/v1/early") {
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly")
            .ok()?;
    }
    if seen.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).ok()?;
            if size == 0 {
                seen.trailers = self::headers(reader)?;
                break;
            }
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            seen.body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = seen.header("content-length") {
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        seen.body = body;
    }
    Some(seen)
}
