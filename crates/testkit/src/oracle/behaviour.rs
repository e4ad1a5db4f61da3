//! What the oracle is asked to do, read from a request's query.
//!
//! `status=503`, `delay_ms=200`, `size=1000`, `chunks=5` (each of `size` bytes), `gap_ms=100`,
//! `trailer=name:value`, `cost=7`, `cost_trailer=7`, `cut=100` (announces twice as much, sends so
//! many bytes, closes), `reset`, `hang`, `early` (answers without reading the body), `echo`,
//! `headers`, `header=name:value`. What it does not know it ignores.

use std::time::Duration;

/// Body bytes without any wish.
const SIZE_DEFAULT: u64 = 16;

/// What one request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behaviour {
    pub status: u16,
    pub delay: Duration,
    pub size: u64,
    pub chunks: Option<u64>,
    pub gap: Duration,
    pub trailers: Vec<(String, String)>,
    pub cost: Option<String>,
    pub cut: Option<u64>,
    pub reset: bool,
    pub hang: bool,
    pub early: bool,
    pub echo: bool,
    pub headers: bool,
    pub extra_headers: Vec<(String, String)>,
}

impl Behaviour {
    /// Reads a query.
    pub fn parse(query: Option<&str>) -> Self {
        let mut wish = Self {
            status: 200,
            delay: Duration::ZERO,
            size: SIZE_DEFAULT,
            chunks: None,
            gap: Duration::ZERO,
            trailers: Vec::new(),
            cost: None,
            cut: None,
            reset: false,
            hang: false,
            early: false,
            echo: false,
            headers: false,
            extra_headers: Vec::new(),
        };
        for part in query.unwrap_or_default().split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            wish.read(name, value);
        }
        if matches!(wish.status, 204 | 304) {
            wish.size = 0;
        }
        wish
    }

    fn read(&mut self, name: &str, value: &str) {
        let number = value.parse::<u64>();
        match name {
            "status" => self.status = value.parse().unwrap_or(self.status),
            "delay_ms" => self.delay = Duration::from_millis(number.unwrap_or(0)),
            "size" => self.size = number.unwrap_or(self.size),
            "chunks" => self.chunks = number.ok(),
            "gap_ms" => self.gap = Duration::from_millis(number.unwrap_or(0)),
            "trailer" => self.trailers.extend(pair(value)),
            "cost" => self.cost = Some(value.to_owned()),
            "cost_trailer" => {
                let cost = ("tollgate-cost".to_owned(), value.to_owned());
                self.trailers.push(cost);
            }
            "cut" => self.cut = number.ok(),
            "reset" => self.reset = true,
            "hang" => self.hang = true,
            "early" => self.early = true,
            "echo" => self.echo = true,
            "headers" => self.headers = true,
            "header" => self.extra_headers.extend(pair(value)),
            _ => {}
        }
    }

    /// Value of the `Trailer` header.
    pub fn trailer_names(&self) -> Option<String> {
        let names: Vec<&str> = self
            .trailers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Value of `Content-Length`, where the body is neither chunked nor measured by itself.
    pub fn content_length(&self) -> Option<u64> {
        if let Some(cut) = self.cut {
            return Some(cut * 2 + 1);
        }
        let chunked = self.chunks.is_some() || !self.trailers.is_empty();
        let other = self.echo || self.headers || matches!(self.status, 204 | 304);
        (!chunked && !other).then_some(self.size)
    }
}

fn pair(value: &str) -> Option<(String, String)> {
    let (name, value) = value.split_once(':')?;
    Some((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_from_the_query() {
        let wish = Behaviour::parse(Some("status=503&delay_ms=20&trailer=a:b&unknown=1&hang"));
        assert_eq!(wish.status, 503);
        assert_eq!(wish.delay, Duration::from_millis(20));
        assert_eq!(wish.trailer_names().as_deref(), Some("a"));
        assert!(wish.hang && !wish.reset);
        assert_eq!(wish.content_length(), None);
        assert_eq!(Behaviour::parse(None).content_length(), Some(SIZE_DEFAULT));
    }
}
