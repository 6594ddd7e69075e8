//! The watches of an API server, each as its plan says: some are behind, some break, some forget.

use std::collections::VecDeque;

use axum::body::Body;
use futures::StreamExt;
use serde_json::json;

use crate::{
    cluster,
    network::{LAG, LATENCY, Network},
    plan::WatchFault,
};

/// A watch that is being served.
struct Watch {
    network: Network,
    who: usize,
    place: cluster::Place,
    version: u64,
    queue: VecDeque<cluster::Change>,
    ended: bool,
}

impl Watch {
    /// The next line; none when it is over.
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let change = self.change().await;
        self.network.thaw(self.who).await;
        tokio::time::sleep(LATENCY).await;
        let mut now = change;
        match self.network.meet_event(self.who, &self.place.resource) {
            None => {}
            Some(WatchFault::Behind) => tokio::time::sleep(LAG).await,
            Some(WatchFault::Broken) => return None,
            Some(WatchFault::Forgotten) => return Some(self.forgets()),
            Some(WatchFault::Missed) => {
                tokio::time::sleep(LAG).await;
                return Some(self.forgets());
            }
            Some(WatchFault::Repeated) => self.queue.push_front(now.clone()),
            Some(WatchFault::Swapped) => {
                self.version = now.version;
                if let Ok(next) = tokio::time::timeout(LAG, self.change()).await {
                    self.queue.push_front(std::mem::replace(&mut now, next));
                }
            }
        }
        self.version = self.version.max(now.version);
        Some(line(now.kind, &now.object))
    }

    /// The server has compacted what it knew: the last words of a watch.
    fn forgets(&mut self) -> String {
        self.ended = true;
        line("ERROR", &cluster::failure(410, "Expired").1)
    }

    async fn change(&mut self) -> cluster::Change {
        loop {
            if let Some(change) = self.queue.pop_front() {
                return change;
            }
            let changed = self.network.outside().cluster.changed.clone();
            let changed = changed.notified();
            self.network.catches_up(self.who).await;
            self.queue.extend(self.network.outside().cluster.since(self.version, &self.place));
            if self.queue.is_empty() {
                changed.await;
            }
        }
    }
}

fn line(kind: &str, object: &serde_json::Value) -> String {
    json!({"type": kind, "object": object}).to_string() + "\n"
}

impl Network {
    /// The stream of a watch. It ends when its operator is dead, and as the plan says.
    pub fn watch(&self, who: usize, request: &cluster::Request) -> Body {
        let version = request.query.get("resourceVersion").and_then(|version| version.parse().ok());
        let (network, place, version) = (self.clone(), request.place.clone(), version.unwrap_or_default());
        let watch = Watch { network, who, place, version, queue: VecDeque::new(), ended: false };
        let lines = futures::stream::unfold(watch, |mut watch| async move {
            let line = watch.next().await?;
            Some((line, watch))
        });
        Body::from_stream(lines.map(Ok::<_, std::io::Error>))
    }

    fn meet_event(&self, who: usize, resource: &str) -> Option<WatchFault> {
        let mut outside = self.outside();
        // Whoever waits for the Lease reads it again anyway, whatever it is told.
        if outside.armed.is_none() || outside.dead.contains(&who) || resource == "leases" {
            return None;
        }
        let n = outside.events;
        outside.events += 1;
        let (fault, words) = outside.plan.take_event(n, resource)?;
        outside.met.push(words);
        Some(fault)
    }

    /// Until an operator that was shown something old is shown what is new.
    async fn catches_up(&self, who: usize) {
        let behind = self.outside().behind.filter(|(after, _)| who > *after);
        if let Some((_, until)) = behind {
            tokio::time::sleep_until(until).await;
        }
    }
}
