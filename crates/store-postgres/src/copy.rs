//! Rows in PostgreSQL's binary form for COPY: an eleven-byte signature and two numbers, then for
//! each row the number of its fields, and for each field its length (-1: NULL) and its bytes, all
//! numbers big-endian; at the end a row of -1 fields.
//! (PostgreSQL 15, "COPY", File Formats, Binary Format.)

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::Transaction;
use futures_util::SinkExt;
use tokio_postgres::CopyInSink;

use crate::failure::{Failure, Worked};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Bytes that are sent at once: large enough that sending costs little, small enough that the
/// server begins while more rows are being written.
const CHUNK_BYTES: usize = 128 << 10;

/// A COPY under way.
pub(crate) struct Copy {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    rows: Rows,
}

impl Copy {
    /// Begins `COPY ... FROM STDIN BINARY`.
    pub(crate) async fn begin(
        transaction: &Transaction<'_>,
        text: &str,
        fields: i16,
    ) -> Worked<Self> {
        let statement = transaction.prepare_cached(text).await?;
        let sink = transaction.copy_in(&statement).await?;
        let mut rows = Rows {
            bytes: BytesMut::with_capacity(CHUNK_BYTES * 2),
            fields,
        };
        rows.bytes.put_slice(SIGNATURE);
        rows.bytes.put_i64(0);
        Ok(Self {
            sink: Box::pin(sink),
            rows,
        })
    }

    /// Where the next row is written; call [`Self::send`] after it.
    pub(crate) fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }

    /// Sends what has gathered, if it is enough.
    pub(crate) async fn send(&mut self) -> Worked<()> {
        if self.rows.bytes.len() < CHUNK_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Worked<()> {
        let chunk = self.rows.bytes.split().freeze();
        self.rows.bytes.reserve(CHUNK_BYTES * 2);
        Ok(self.sink.feed(chunk).await?)
    }

    /// Ends it; how many rows the table took.
    pub(crate) async fn finish(mut self) -> Worked<u64> {
        self.rows.bytes.put_i16(-1);
        self.flush().await?;
        Ok(self.sink.as_mut().finish().await?)
    }
}

/// Rows that are written from left to right.
pub(crate) struct Rows {
    bytes: BytesMut,
    fields: i16,
}

impl Rows {
    /// Begins a row.
    pub(crate) fn row(&mut self) {
        self.bytes.put_i16(self.fields);
    }

    /// `BIGINT`.
    pub(crate) fn number(&mut self, value: i64) {
        self.bytes.put_i32(8);
        self.bytes.put_i64(value);
    }

    /// `BIGINT` or NULL.
    pub(crate) fn optional_number(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.number(value),
            None => self.null(),
        }
    }

    /// `INTEGER`.
    pub(crate) fn small(&mut self, value: i32) {
        self.bytes.put_i32(4);
        self.bytes.put_i32(value);
    }

    /// `BOOLEAN`.
    pub(crate) fn flag(&mut self, value: bool) {
        self.bytes.put_i32(1);
        self.bytes.put_u8(u8::from(value));
    }

    /// `TEXT` or `BYTEA`.
    pub(crate) fn raw(&mut self, value: &[u8]) -> Worked<()> {
        let length = i32::try_from(value.len());
        self.bytes
            .put_i32(length.map_err(|_| Failure::Unreadable("length"))?);
        self.bytes.put_slice(value);
        Ok(())
    }

    /// `TEXT`.
    pub(crate) fn text(&mut self, value: &str) -> Worked<()> {
        self.raw(value.as_bytes())
    }

    /// `TEXT` or `BYTEA`, or NULL.
    pub(crate) fn option(&mut self, value: Option<&[u8]>) -> Worked<()> {
        match value {
            Some(value) => self.raw(value),
            None => {
                self.null();
                Ok(())
            }
        }
    }

    fn null(&mut self) {
        self.bytes.put_i32(-1);
    }
}
