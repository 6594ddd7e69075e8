//! The inventory: one list of a registry serves all its clients.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{Client, Error, Registry, ShownMark};

/// A list that failed is not asked for again within this time: a thousand clients would all try.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// All clients that a registry shows to our credentials.
pub struct Inventory {
    /// When it was asked for: it knows nothing of what happened later.
    pub taken: Instant,
    /// Counts the inventories of a session.
    pub number: u64,
    /// The account that the clients belong to, where the registry tells.
    pub account_id: Option<String>,
    clients: HashMap<String, Client>,
}

impl Inventory {
    fn new(taken: Instant, number: u64, clients: Vec<Client>) -> Self {
        let account_id = clients.iter().find_map(|client| client.account_id.clone());
        let clients = clients.into_iter().map(|client| (client.client_id.clone(), client)).collect();
        Self { taken, number, account_id, clients }
    }

    /// The client of this id.
    pub fn get(&self, client_id: &str) -> Option<&Client> {
        self.clients.get(client_id)
    }

    /// The clients that bear a mark.
    pub fn marked(&self) -> impl Iterator<Item = (&Client, &ShownMark)> {
        self.clients.values().filter_map(|client| Some((client, client.mark.as_ref()?)))
    }

    /// How many clients there are, whosever they are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

/// The last inventory of a registry. One list runs at a time; whoever comes meanwhile waits for it.
#[derive(Default)]
pub struct Inventories(Mutex<Last>);

#[derive(Default)]
struct Last {
    inventory: Option<Arc<Inventory>>,
    failed: Option<(Instant, Error)>,
    count: u64,
    /// Of the credentials that it was asked with.
    fingerprint: String,
}

impl Inventories {
    /// An inventory that was asked for after `since`, with credentials of this fingerprint.
    pub async fn since(
        &self,
        since: Option<Instant>,
        fingerprint: &str,
        registry: &dyn Registry,
    ) -> Result<Arc<Inventory>, Error> {
        let mut last = self.0.lock().await;
        if last.fingerprint != fingerprint {
            *last = Last { count: last.count, fingerprint: fingerprint.into(), ..Last::default() };
        }
        if let Some(inventory) = &last.inventory
            && since.is_none_or(|since| inventory.taken >= since)
        {
            return Ok(inventory.clone());
        }
        if let Some((at, error)) = &last.failed
            && at.elapsed() < AFTER_FAILURE
        {
            return Err(error.clone());
        }
        let taken = Instant::now();
        match registry.list().await {
            Ok(clients) => {
                last.count += 1;
                let inventory = Arc::new(Inventory::new(taken, last.count, clients));
                last.inventory = Some(inventory.clone());
                last.failed = None;
                Ok(inventory)
            }
            Err(error) => {
                last.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
