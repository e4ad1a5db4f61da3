//! A client that says exactly what a test tells it to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here takes: a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body came to its proper end.
    pub whole: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let first = found.next().map(|(_, v)| v.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        first
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends what may be cut short by the other side.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _cut_short = self.stream.write_all(bytes.as_ref());
    }

    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, b"")
    }

    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: api.test\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
        self.answer_to(method)
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0u8; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = String::from_utf8(line).unwrap();
                return Some(text.trim_end().to_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    fn headers(&mut self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        while let Some(line) = self.line() {
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        headers
    }

    /// The head of the next answer.
    pub fn head(&mut self) -> Option<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer {
            status,
            headers: self.headers(),
            body: Vec::new(),
            trailers: Vec::new(),
            whole: false,
        })
    }

    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    pub fn answer_to(&mut self, method: &str) -> Answer {
        let mut answer = self.head().expect("an answer");
        if answer.status == 100 {
            answer = self.head().expect("an answer after 100");
        }
        let bodiless = method == "HEAD" || matches!(answer.status, 101 | 204 | 304);
        let length = answer.header("content-length").map(|n| n.parse().unwrap());
        let chunked = answer.header("transfer-encoding") == Some("chunked");
        if bodiless {
            answer.whole = true;
        } else if chunked {
            self.chunks(&mut answer);
        } else if let Some(length) = length {
            match self.exactly(length) {
                Some(body) => {
                    answer.body = body;
                    answer.whole = true;
                }
                None => answer.body = std::mem::take(&mut self.buffer),
            }
        } else {
            while self.more() {}
            answer.body = std::mem::take(&mut self.buffer);
            answer.whole = true;
        }
        answer
    }

    fn chunks(&mut self, answer: &mut Answer) {
        while let Some(size) = self.chunk(&mut answer.body) {
            if size == 0 {
                answer.trailers = self.headers();
                answer.whole = true;
                return;
            }
        }
    }

    /// Reads one chunk of a body; its size, or `None` when the stream broke off.
    pub fn chunk(&mut self, into: &mut Vec<u8>) -> Option<usize> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).ok()?;
        if size > 0 {
            into.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
        Some(size)
    }

    /// Whether the other side has closed, with nothing left to read.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more()
    }

    /// Leaves without a word.
    pub fn leave(self) {
        let _already_gone = self.stream.shutdown(Shutdown::Both);
    }
}
