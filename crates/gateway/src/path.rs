//! Whether a request's path is well formed.
//!
//! **Invariant.** The path that is matched is the path that is metered and the path that is
//! forwarded, byte for byte: nothing is decoded, folded or normalised here. Spellings that some
//! server behind us could read as another path (`//`, dot segments, encoded slashes and
//! backslashes, NUL, broken escapes, overlong UTF-8) are refused instead.
//!
//! **Does not own** the query, which is never looked at.

use crate::options::URI_BYTES_MAX;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// It does not begin with a slash.
    NotAbsolute,
    /// Longer than a gateway takes.
    TooLong,
    /// An empty segment before the end.
    DoubleSlash,
    /// `.` or `..`, encoded or followed by `;` too.
    DotSegment,
    /// A byte that stands for itself in no path.
    Byte,
    /// `%` without two hexadecimal digits, or an escape that hides a control byte or `\`, or
    /// escapes that are overlong UTF-8.
    Escape,
}

impl PathError {
    /// What the caller is told.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::NotAbsolute => "The request target must be a path that begins with a slash.",
            Self::TooLong => "The request target is too long.",
            Self::DoubleSlash => "The path must not have empty segments (//).",
            Self::DotSegment => "The path must not have . or .. segments, encoded ones included.",
            Self::Byte => "The path holds a byte that must be escaped.",
            Self::Escape => "The path holds a broken or forbidden escape.",
        }
    }
}

/// What of a well-formed path depends on the API that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathFacts {
    /// `%2F` occurs: passes only where the API says so.
    pub(crate) has_encoded_slash: bool,
}

/// Checks a raw path.
pub(crate) fn check_path(path: &str) -> Result<PathFacts, PathError> {
    let bytes = path.as_bytes();
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return Err(PathError::NotAbsolute);
    };
    if bytes.len() > URI_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    let mut facts = PathFacts {
        has_encoded_slash: false,
    };
    let mut segment = Segment::default();
    let mut rest = rest;
    // The value of the escape just before, if there was one.
    let mut escaped = None;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let lead = escaped.take();
        match byte {
            b'/' => segment.end_at_slash()?,
            b'%' => {
                let (value, tail) = escape(tail).ok_or(PathError::Escape)?;
                rest = tail;
                if lead.is_some_and(|lead| is_overlong(lead, value)) {
                    return Err(PathError::Escape);
                }
                escaped = Some(value);
                match value {
                    0..=0x1f | 0x7f | b'\\' => return Err(PathError::Escape),
                    b'/' => {
                        facts.has_encoded_slash = true;
                        segment.end_at_encoded_slash()?;
                    }
                    value => segment.push(value),
                }
            }
            b'\\' => return Err(PathError::Byte),
            byte if byte.is_ascii_graphic() => segment.push(byte),
            _ => return Err(PathError::Byte),
        }
    }
    segment.check_dots()?;
    Ok(facts)
}

/// Whether two bytes begin an overlong UTF-8 sequence: a character spelled with more bytes than it
/// needs, which careless decoders read as `.`, `/` or `\`.
fn is_overlong(lead: u8, next: u8) -> bool {
    matches!(
        (lead, next),
        (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f)
    )
}

/// The value of an escape, and what follows its two digits.
fn escape(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, tail) = after_percent.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|d| char::from(d).to_digit(16));
    let value = u8::try_from(high? * 16 + low?).ok()?;
    Some((value, tail))
}

/// Enough of a segment to tell whether some server would take it for `.` or `..`.
#[derive(Default)]
struct Segment {
    /// Bytes seen, decoded; counting stops mattering after a few.
    len: usize,
    /// Dots at its beginning, while nothing else was seen.
    dots: usize,
    /// `;` seen: what follows is a parameter to some servers.
    parameters: bool,
}

impl Segment {
    fn push(&mut self, byte: u8) {
        if byte == b';' {
            self.parameters = true;
        }
        if !self.parameters {
            self.dots += usize::from(byte == b'.' && self.dots == self.len);
            self.len += 1;
        } else if self.len == 0 {
            // A segment of parameters alone is not empty.
            self.len = usize::MAX / 2;
        }
    }

    fn check_dots(&self) -> Result<(), PathError> {
        if self.len == self.dots && matches!(self.dots, 1 | 2) {
            Err(PathError::DotSegment)
        } else {
            Ok(())
        }
    }

    fn end_at_slash(&mut self) -> Result<(), PathError> {
        if self.len == 0 {
            return Err(PathError::DoubleSlash);
        }
        self.end_at_encoded_slash()
    }

    fn end_at_encoded_slash(&mut self) -> Result<(), PathError> {
        self.check_dots()?;
        *self = Self::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass() {
        for good in [
            "/",
            "/v1",
            "/v1/",
            "/v1/widgets/7",
            "/a.b/..c/c../...",
            "/a;b=1/c",
            "/%20/%C3%A4",
            "/%e0%a4%a8/%f0%9f%98%80/%c0x%ae",
            "/a:b@c!$&'()*+,=~",
            "/.well-known/x",
            "/;x",
        ] {
            assert!(check_path(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn spellings_of_other_paths_are_refused() {
        use PathError::*;
        for (bad, why) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("v1", NotAbsolute),
            ("//", DoubleSlash),
            ("/a//b", DoubleSlash),
            ("/.", DotSegment),
            ("/..", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/%2e%2E/b", DotSegment),
            ("/a/.%2e", DotSegment),
            ("/a/%2e", DotSegment),
            ("/a/..;x/b", DotSegment),
            ("/a/..%2fb", DotSegment),
            ("/a%2f../b", DotSegment),
            ("/a\\b", Byte),
            ("/a b", Byte),
            ("/\u{e4}", Byte),
            ("/%5c", Escape),
            ("/%00", Escape),
            ("/%0a", Escape),
            ("/%7f", Escape),
            ("/%", Escape),
            ("/%2", Escape),
            ("/%g0", Escape),
            ("/%+1", Escape),
            ("/%c0%ae%c0%ae/x", Escape),
            ("/%C1%9C", Escape),
            ("/%e0%80%af", Escape),
            ("/%f0%80%80%ae", Escape),
        ] {
            assert_eq!(check_path(bad), Err(why), "{bad}");
        }
        let long = format!("/{}", "a".repeat(URI_BYTES_MAX));
        assert_eq!(check_path(&long), Err(TooLong));
    }

    /// The path as the most eager server would read it: decoded, `\\` as a slash.
    fn read_eagerly(path: &str) -> String {
        let mut out = String::new();
        let mut rest = path.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            let byte = match (byte, escape(tail)) {
                (b'%', Some((value, tail))) => {
                    rest = tail;
                    value
                }
                _ => byte,
            };
            out.push(char::from(byte).to_ascii_lowercase());
        }
        out.replace('\\', "/")
    }

    proptest::proptest! {
        #[test]
        fn no_path_that_passes_climbs_out_of_its_prefix(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "/", "a", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", ";", "%", "%00", "x",
                ]),
                0..12,
            )
        ) {
            let path = format!("/v1/{}", parts.concat());
            if check_path(&path).is_ok() {
                let eager = read_eagerly(&path);
                for segment in eager.split('/') {
                    let name = segment.split(';').next().unwrap();
                    assert!(name != "." && name != "..", "{path}");
                }
                assert!(!eager.contains('\0'), "{path}");
            }
        }
    }

    #[test]
    fn encoded_slashes_are_told_apart() {
        let facts = |path| check_path(path).map(|f| f.has_encoded_slash);
        assert_eq!(facts("/a%2Fb"), Ok(true));
        assert_eq!(facts("/a%2fb/"), Ok(true));
        assert_eq!(facts("/a/b"), Ok(false));
    }
}
