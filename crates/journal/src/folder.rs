//! Reading events and counters out of a journal's folder without opening it: also beside the
//! process that has it open. For proof on the command line; shipping goes through [`Reader`].
//!
//! [`Reader`]: crate::Reader

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use tollgate_model::{Sequence, UsageEvent};

use crate::frame::{Kind, salt_of};
use crate::fs::Filesystem;
use crate::layout::{Ask, lay_out, list_segments, read_pieces};
use crate::twin::Twin;
use crate::wire::{CheckpointFile, decode_event};
use crate::{Checkpoint, Inspection, JournalError, inspect};

/// A journal's folder. Everything is read anew with every call.
#[derive(Clone)]
pub struct Folder {
    fs: Arc<dyn Filesystem>,
    dir: PathBuf,
}

impl Folder {
    /// The folder `dir`.
    #[must_use]
    pub fn new(fs: Arc<dyn Filesystem>, dir: &Path) -> Self {
        Self {
            fs,
            dir: dir.to_owned(),
        }
    }

    /// Streams, how far they go, and their running totals.
    ///
    /// # Errors
    /// As [`inspect`].
    pub fn inspect(&self) -> Result<Inspection, JournalError> {
        inspect(&*self.fs, &self.dir)
    }

    /// The newest checkpoint that can be read; `None` where there is none.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let found = Twin::load(&*self.fs, &self.dir, "checkpoint");
        found.payloads.iter().find_map(|bytes| {
            let mut file = CheckpointFile::decode(bytes.as_slice()).ok()?;
            Some(Checkpoint {
                shards: file.read_shards().ok()?,
                epoch: file.epoch,
                at: file.at(),
            })
        })
    }

    /// Shows every readable event of a stream from `from` on, rising.
    ///
    /// # Errors
    /// When the folder cannot be listed; damaged entries are left out.
    pub fn each_event(
        &self,
        (epoch, thread): (u64, u16),
        from: Sequence,
        show: &mut dyn FnMut(Sequence, UsageEvent),
    ) -> Result<(), JournalError> {
        let mut streams =
            list_segments(&*self.fs, &self.dir).map_err(JournalError::io("list", &self.dir))?;
        let Some(files) = streams.remove(&(epoch, thread)) else {
            return Ok(());
        };
        let salt = salt_of(epoch, thread);
        let layout = lay_out(&*self.fs, salt, files);
        let ask = Ask {
            replay_from: Some(from.0),
            known_next: 0,
            open_ended: true,
        };
        read_pieces(
            &*self.fs,
            salt,
            &layout.pieces,
            ask,
            &mut |head, payload| {
                if head.kind != Kind::Event {
                    return true;
                }
                let Ok((event, _)) = decode_event(payload) else {
                    return false;
                };
                show(Sequence(head.sequence), event);
                true
            },
        );
        Ok(())
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("dir", &self.dir).finish()
    }
}
