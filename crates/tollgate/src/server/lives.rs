//! Which life of each gateway the store saw begin.
//!
//! A journal folder that is a copy of another begins the same life as the folder it was copied
//! from, and what both write has the same identity. So every start says in the store which life it
//! begins, before it serves anybody: the folder that comes second finds a life that it did not
//! live, and takes its past for lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use tollgate_gateway::Gateway;
use tollgate_model::{NodeId, Sequence, StreamId};
use tollgate_store::Store;

/// Under which name the store keeps it: epochs by gateway, as JSON.
const SETTING: &str = "gateway_lives";

/// Most gateways that are remembered; of those beyond, the marks alone tell.
const GATEWAYS_MAX: usize = 256;
/// So often other gateways may begin at the same moment.
const TRIES: u32 = 20;

/// What the store knows of all gateways at a start.
pub struct Lives {
    store: Arc<dyn Store>,
    marks: Vec<(StreamId, Sequence)>,
    /// The last life of each.
    last: BTreeMap<String, u64>,
}

impl Lives {
    /// Reads what the store knows.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(store: &Arc<dyn Store>) -> anyhow::Result<Self> {
        let marks = store.all_high_water_marks().await;
        let marks = marks.context("the store cannot say how far it has taken in the journal")?;
        let (last, _) = last(store.as_ref()).await?;
        Ok(Self {
            store: store.clone(),
            marks: marks.into_iter().map(|m| (m.stream, m.next)).collect(),
            last,
        })
    }

    /// How far each stream was taken in; a life that nothing came of yet is a stream of nothing.
    #[must_use]
    pub fn marks(&self) -> Vec<(StreamId, Sequence)> {
        let begun = self.last.iter().map(|(node, epoch)| {
            let stream = StreamId {
                node: NodeId::new(node),
                epoch: *epoch,
                thread: u16::MAX,
            };
            (stream, Sequence(0))
        });
        self.marks.iter().cloned().chain(begun).collect()
    }

    /// Says that the gateway's life begins.
    ///
    /// # Errors
    /// When the store cannot be written, or another process began a life of the same gateway since
    /// [`Lives::read`].
    pub async fn begin(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let node = gateway.node_id().as_str();
        let epoch = gateway.reader().context("the gateway has stopped")?.epoch();
        for _ in 0..TRIES {
            let (mut lives, held) = last(self.store.as_ref()).await?;
            if lives.get(node) != self.last.get(node) {
                break;
            }
            lives.insert(node.to_owned(), epoch);
            forget_oldest(&mut lives);
            let text = serde_json::to_string(&lives)?;
            let store = &self.store;
            if store
                .replace_setting(SETTING, held.as_deref(), &text)
                .await?
            {
                return Ok(());
            }
        }
        bail!(
            "another process with the name {node} started on the same store at this moment, perhaps \
             from a copy of the journal folder: both would write records of the same identity. Stop \
             one of them, and give it a journal folder of its own"
        )
    }
}

async fn last(store: &dyn Store) -> anyhow::Result<(BTreeMap<String, u64>, Option<String>)> {
    let held = store.find_setting(SETTING).await;
    let held = held.context("the store cannot say which gateways it knows")?;
    let lives = held.as_deref().map(serde_json::from_str).transpose();
    let lives = lives.with_context(|| format!("the setting {SETTING} in the store is damaged"))?;
    Ok((lives.unwrap_or_default(), held))
}

/// A folder that is new at each start brings a new name each time.
fn forget_oldest(lives: &mut BTreeMap<String, u64>) {
    while lives.len() > GATEWAYS_MAX {
        let oldest = lives.iter().min_by_key(|(_, epoch)| **epoch);
        let Some(oldest) = oldest.map(|(node, _)| node.clone()) else {
            return;
        };
        lives.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_gateways_are_remembered_than_fit_and_the_oldest_go_first() {
        let mut lives: BTreeMap<String, u64> =
            (0..300).map(|n| (format!("node-{n}"), 1_000 - n)).collect();
        forget_oldest(&mut lives);
        assert_eq!(lives.len(), GATEWAYS_MAX);
        assert!(lives.contains_key("node-0") && !lives.contains_key("node-299"));
    }
}
