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

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::{
        providers::{Fake, Fault, cal_com},
        registry::{
            Credentials, Kind, Session, open,
            tests::{connection, session_over},
        },
    };

    const LIST: &str = "GET /v2/oauth-clients";

    /// A provider with these many clients, and a way there.
    fn town(clients: usize) -> (Fake<cal_com::CalCom>, Arc<Session>, Box<dyn Registry>) {
        let mut provider = cal_com::CalCom::new();
        provider.add_foreign(clients);
        provider.key("cal_live_CANARY-other", 2, cal_com::Role::Owner);
        let fake = Fake::new(provider);
        let spec = json!({"calCom": {"url": "https://cal.example", "credentialsSecretRef": {"name": "key"}}});
        let session = session_over(&fake, &connection(spec));
        let driver = with_key(&session, cal_com::KEY);
        (fake, session, driver)
    }

    fn with_key(session: &Arc<Session>, key: &str) -> Box<dyn Registry> {
        let credentials = Credentials::Bearer(key.into());
        session.keep_credentials(credentials.clone());
        open(session.clone(), Some(credentials)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_who_ask_at_once_cost_one_list() {
        let (fake, session, driver) = town(3);
        let since = Some(Instant::now());
        let all = join_all((0..1000).map(|_| session.inventory(driver.as_ref(), since))).await;
        assert!(all.iter().all(|inventory| inventory.as_ref().unwrap().len() == 3));
        assert_eq!(fake.count(LIST), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_serves_whoever_asks_for_nothing_newer() {
        let (fake, session, driver) = town(1);
        let first = session.inventory(driver.as_ref(), None).await.unwrap();
        tokio::time::advance(Duration::from_mins(10)).await;
        let cases = [
            (None, 1, "however old"),
            (Some(first.taken), 1, "asked for just then"),
            (Some(first.taken + Duration::from_millis(1)), 2, "asked for later"),
        ];
        for (since, number, reason) in cases {
            let inventory = session.inventory(driver.as_ref(), since).await.unwrap();
            assert_eq!(
                (inventory.number, fake.count(LIST)),
                (number, usize::try_from(number).unwrap()),
                "{reason}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_failed_is_not_asked_for_again_at_once_and_proves_nothing() {
        let (fake, session, driver) = town(1);
        fake.disturb(LIST, Fault::Answered(500));
        for _ in 0..100 {
            let error = session.inventory(driver.as_ref(), None).await.err().unwrap();
            assert_eq!(error.kind, Kind::Unavailable);
        }
        assert_eq!(fake.count(LIST), 1, "for those who wait");
        tokio::time::advance(AFTER_FAILURE).await;
        assert_eq!(session.inventory(driver.as_ref(), None).await.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_takes_nothing_from_whoever_is_content_with_an_older_list() {
        let (fake, session, driver) = town(1);
        let first = session.inventory(driver.as_ref(), None).await.unwrap();
        fake.disturb(LIST, Fault::Answered(500));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(session.inventory(driver.as_ref(), Some(Instant::now())).await.is_err());
        let older = session.inventory(driver.as_ref(), Some(first.taken)).await.unwrap();
        assert_eq!(older.number, first.number);
    }

    #[tokio::test(start_paused = true)]
    async fn other_credentials_see_another_list_however_young_the_last_one_is() {
        let (_, session, driver) = town(2);
        let ours = session.inventory(driver.as_ref(), None).await.unwrap();
        assert_eq!((ours.len(), ours.account_id.as_deref()), (2, Some("1")));
        let other = with_key(&session, "cal_live_CANARY-other");
        let theirs = session.inventory(other.as_ref(), None).await.unwrap();
        assert!(theirs.is_empty() && theirs.account_id.is_none() && theirs.number > ours.number);
    }
}
