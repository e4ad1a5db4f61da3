//! A second look at the bytes of a client's requests, for what a parser's result no longer shows.
//!
//! hyper reads a head into a map and repairs what it can: of `Content-Length` beside
//! `Transfer-Encoding` it drops the former, of two equal lengths one. What we forward is written
//! anew and therefore safe, but such a request is either broken or an attempt to make two servers
//! disagree, and is refused. [`RequestScanner`] follows the framing of the stream line by line and
//! says where it must end.
//!
//! **Invariant.** The scanner only ever refuses: it never changes what hyper sees but for cutting
//! the stream with bytes that no parser takes ([`POISON`]), upon which hyper answers 400 and
//! closes.
//!
//! Draws the line at: `Content-Length` with `Transfer-Encoding`, or either twice, or an underscore
//! spelling of them; a transfer coding other than `chunked`; line folding; a line that ends
//! without CR or holds one inside; chunk sizes, extensions and trailers out of form.

/// No request line, header, chunk size or trailer may hold these bytes.
pub(crate) const POISON: &[u8] = b"\0\r\n\r\n";

/// Longest line of chunk framing, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1_024;
/// Longest line that is kept to be judged; hyper's own cap on the head ends longer ones.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Follows one connection's requests.
#[derive(Debug)]
pub(crate) struct RequestScanner {
    state: State,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request: empty lines are skipped.
    Between,
    /// Inside the head, after the request line.
    Head,
    /// So many bytes of a body of known length are to come.
    Body(u64),
    /// A chunk's size is to come.
    ChunkSize,
    /// So many bytes of a chunk are to come.
    ChunkData(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailers.
    Trailers,
    /// An upgrade was asked for: what follows may not be HTTP.
    Blind,
    /// Refused.
    Broken,
}

#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The stream breaks the rules: of the bytes shown, this many may still pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) usize);

impl RequestScanner {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Between,
            partial: Vec::new(),
            head: Head::default(),
        }
    }

    /// Whether the body of the last request has not been seen to its end.
    pub(crate) fn in_body(&self) -> bool {
        use State::{Body, ChunkData, ChunkEnd, ChunkSize, Trailers};
        matches!(
            self.state,
            Body(_) | ChunkSize | ChunkData(_) | ChunkEnd | Trailers
        )
    }

    /// Looks at the next bytes of the stream.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Blind => return Ok(()),
                State::Broken => return Err(Violation(bytes.len() - rest.len())),
                State::Body(left) => {
                    let (state, rest) = skip(rest, left, State::Between, State::Body);
                    self.state = state;
                    rest
                }
                State::ChunkData(left) => {
                    let (state, rest) = skip(rest, left, State::ChunkEnd, State::ChunkData);
                    self.state = state;
                    rest
                }
                _ => {
                    let passed = bytes.len() - rest.len();
                    self.line(rest).ok_or_else(|| {
                        self.state = State::Broken;
                        Violation(passed)
                    })?
                }
            };
        }
        Ok(())
    }

    /// Takes bytes up to the end of a line; `None` when the line breaks a rule.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
                if matches!(self.state, State::Between | State::Head) {
                    // Passed on whole, it is beyond hyper's cap on the head: 431 instead of 400.
                    self.state = State::Blind;
                    return Some(&[]);
                }
                return None;
            }
            self.partial.extend_from_slice(bytes);
            return Some(&[]);
        };
        let (line, rest) = bytes.split_at(end);
        let rest = rest.get(1..).unwrap_or(&[]);
        let next = if self.partial.is_empty() {
            self.whole_line(line)
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            let next = self.whole_line(&whole);
            whole.clear();
            self.partial = whole;
            next
        };
        self.state = next?;
        Some(rest)
    }

    fn whole_line(&mut self, line: &[u8]) -> Option<State> {
        let line = line.strip_suffix(b"\r")?;
        if line.contains(&b'\r') {
            return None;
        }
        match self.state {
            State::Between if line.is_empty() => Some(State::Between),
            // hyper would close an HTTP/2 preface without an answer.
            State::Between if line.ends_with(b" HTTP/2.0") => None,
            State::Between => {
                self.head = Head::default();
                Some(State::Head)
            }
            State::Head if line.is_empty() => Some(self.head.body()),
            State::Head => self.head.header(line).map(|()| State::Head),
            State::ChunkSize => chunk_size(line).map(|size| match size {
                0 => State::Trailers,
                size => State::ChunkData(size),
            }),
            State::ChunkEnd => line.is_empty().then_some(State::ChunkSize),
            State::Trailers if line.is_empty() => Some(State::Between),
            State::Trailers => trailer(line).map(|()| State::Trailers),
            other => Some(other),
        }
    }
}

fn skip(bytes: &[u8], left: u64, done: State, more: impl FnOnce(u64) -> State) -> (State, &[u8]) {
    match usize::try_from(left).ok().and_then(|n| bytes.get(n..)) {
        Some(rest) => (done, rest),
        None => (more(left - bytes.len() as u64), &[]),
    }
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Option<()> {
        let (name, value) = split_header(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok();
            let length = length.and_then(crate::head::parse_length)?;
            let first = self.length.replace(length).is_none();
            return (first && !self.chunked).then_some(());
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let first = !std::mem::replace(&mut self.chunked, true);
            let plain = value.eq_ignore_ascii_case(b"chunked");
            return (first && plain && self.length.is_none()).then_some(());
        }
        self.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        (!is_disguised_framing(name)).then_some(())
    }

    fn body(&self) -> State {
        match (self.chunked, self.length) {
            (true, _) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Body(length),
            _ if self.upgrade => State::Blind,
            _ => State::Between,
        }
    }
}

/// Name and trimmed value; `None` for folded lines and lines without a plain name.
fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = line.split_at(colon);
    let plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    plain.then(|| (name, value.get(1..).unwrap_or(&[]).trim_ascii()))
}

fn is_disguised_framing(name: &[u8]) -> bool {
    let same = |other: &[u8]| {
        let pairs = name.iter().zip(other);
        let fold = |b: u8| {
            if b == b'_' {
                b'-'
            } else {
                b.to_ascii_lowercase()
            }
        };
        name.len() == other.len() && pairs.into_iter().all(|(a, b)| fold(*a) == *b)
    };
    name.contains(&b'_') && (same(b"content-length") || same(b"transfer-encoding"))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    if line.len() > CHUNK_LINE_BYTES_MAX {
        return None;
    }
    let mut parts = line.splitn(2, |b| *b == b';');
    let digits = parts.next()?;
    let extension = parts.next().unwrap_or(&[]);
    let visible = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\t');
    let hex = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    if !hex || !extension.iter().all(visible) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

fn trailer(line: &[u8]) -> Option<()> {
    const NEVER: [&[u8]; 4] = [
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"authorization",
    ];
    let (name, _) = split_header(line)?;
    let steering = NEVER.iter().any(|n| name.eq_ignore_ascii_case(n));
    (!steering && !is_disguised_framing(name)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn judge(stream: &str) -> bool {
        let whole = RequestScanner::new().scan(stream.as_bytes()).is_ok();
        let mut scanner = RequestScanner::new();
        let by_byte = stream.bytes().all(|b| scanner.scan(&[b]).is_ok());
        assert_eq!(whole, by_byte, "pieces must not matter: {stream:?}");
        whole
    }

    fn post(headers: &str, body: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
    }

    #[test]
    fn well_framed_requests_pass_one_after_the_other() {
        let streams = [
            GET.repeat(3),
            format!("\r\n{GET}"),
            format!("{}{GET}", post("Content-Length: 3\r\n", "a\nb")),
            format!(
                "{}{GET}",
                post(
                    "Transfer-Encoding: chunked\r\n",
                    "3;x=\"y\"\r\na\nb\r\n0\r\nX-Sum: 1\r\n\r\n"
                )
            ),
            format!("{}{GET}", post("Content-Length: 0\r\n", "")),
            post("Upgrade: websocket\r\nConnection: upgrade\r\n", "\u{1}\n\n"),
        ];
        for stream in streams {
            assert!(judge(&stream), "{stream:?}");
        }
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for headers in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length:\r\n",
            "Content_Length: 3\r\n",
            "transfer_encoding: chunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: 1\r\n folded\r\n",
            "X: 1\nY: 2\r\n",
            "X: a\rb\r\n",
            ": empty\r\n",
            "no colon\r\n",
        ] {
            assert!(!judge(&post(headers, "")), "{headers:?}");
        }
    }

    #[test]
    fn chunks_out_of_form_are_refused() {
        for body in [
            "x\r\n",
            "-1\r\n",
            "\r\n",
            "3 \r\nabc\r\n",
            "3\nabc\r\n",
            "3\r\nabcX\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3;a\rb\r\nabc\r\n",
            "11112222333344445\r\n",
            "0\r\nContent-Length: 3\r\n\r\n",
            "0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\nHost: b\r\n\r\n",
            "0\r\nAuthorization: b\r\n\r\n",
        ] {
            assert!(
                !judge(&post("Transfer-Encoding: chunked\r\n", body)),
                "{body:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_scanner_fail_and_pieces_never_matter(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "GET / HTTP/1.1\r\n", "\r\n", "\n", "\r", "Content-Length: 3\r\n",
                    "Transfer-Encoding: chunked\r\n", "3\r\n", "0\r\n", "abc", " x\r\n", "\0",
                    "Upgrade: x\r\n", "ffffffffffffffff\r\n", "Host: a\r\n",
                ]),
                0..40,
            )
        ) {
            judge(&parts.concat());
        }
    }

    #[test]
    fn what_came_before_the_violation_may_pass() {
        let stream = format!("{GET}{}", post("Content_Length: 1\r\n", ""));
        let at = stream.find("Content_Length").unwrap();
        let result = RequestScanner::new().scan(stream.as_bytes());
        assert_eq!(result, Err(Violation(at)));
    }
}
