//! Goes round the registries: tells of each whether it answers, and how many clients it has. Where clients can be listed, one list
//! a drift interval serves all of them, shows what nobody needs any more, and tells whether the registry can be believed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};

use crate::{
    api::{ConditionStatus, OAuthClient, RegistryCapabilities, RegistryStatus, annotations, conditions},
    in_use::{self, Holds},
    reconcile::{
        Context, PassError, call, caught,
        facts::{Facts, Why},
        following,
        gather::{self, Usable},
        intent::Intent,
        look, next,
        protocol::Rule,
        record::{self, Record},
        rotation,
        status::condition,
    },
    registry::{Capabilities, Client, Error, Inventory, Registry, Rotation, SessionKey, ShownMark, Support},
    registry_objects::{self, Part, RegistryObject},
};

/// However much changes, so long it is not looked again which registry is due.
const PAUSE: Duration = Duration::from_secs(2);
/// However little changes, so soon it is: time alone ends the holding of a registry.
const LONGEST_REST: Duration = Duration::from_secs(10);
const PAGE: u32 = 500;
/// What only a change of the registry object, or of the operator's settings, ends.
const DEAD_ENDS: [&str; 2] = ["InvalidRegistry", "HostNotAllowed"];

/// Goes round until it is aborted. `namespaces` are those that are served; none means all.
pub async fn run(context: Arc<Context>, namespaces: Vec<String>) {
    let mut turns = Turns::default();
    let mut rounds = JoinSet::new();
    let mut holds = Holds::default();
    context.registries.wait_until_listed().await;
    loop {
        let found = registry_objects::all(&context);
        let users = in_use::users(&context);
        for object in &found {
            holds.settle(&context, object, users.get(&object.key).copied().unwrap_or_default()).await;
        }
        turns.forget_all_but(&found);
        for object in found {
            if turns.take(&object) {
                let (context, namespaces) = (context.clone(), namespaces.clone());
                rounds.spawn(async move {
                    round(&context, &object, &namespaces).await;
                    object.key
                });
            }
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            biased;
            Some(ended) = rounds.join_next() => turns.end(ended),
            () = context.registries.changed.notified() => {}
            () = tokio::time::sleep(turns.rest()) => {}
        }
        while let Some(ended) = rounds.try_join_next() {
            turns.end(ended);
        }
    }
}

/// Whose turn it is.
#[derive(Default)]
struct Turns {
    /// When each registry is due again, and what it was.
    due: HashMap<SessionKey, (Instant, u64)>,
    running: HashSet<SessionKey>,
}

impl Turns {
    /// Whether it is this registry's turn, which is then taken. A registry that hangs keeps nobody else waiting.
    fn take(&mut self, object: &RegistryObject) -> bool {
        let (now, version) = (Instant::now(), object.version());
        let due = self.due.get(&object.key).is_none_or(|(at, then)| *then != version || *at <= now);
        let its_turn = due && self.running.insert(object.key.clone());
        if its_turn {
            self.due.insert(object.key.clone(), (now + object.interval(), version));
        }
        its_turn
    }

    fn end(&mut self, ended: Result<SessionKey, JoinError>) {
        if let Ok(key) = ended {
            self.running.remove(&key);
        }
    }

    fn forget_all_but(&mut self, found: &[RegistryObject]) {
        self.due.retain(|key, _| found.iter().any(|object| object.key == *key));
    }

    /// How long nothing is due.
    fn rest(&self) -> Duration {
        let now = Instant::now();
        let rests = self.due.values().map(|(at, _)| at.saturating_duration_since(now));
        rests.min().unwrap_or(LONGEST_REST).min(LONGEST_REST)
    }
}

/// One round at one registry.
pub async fn round(context: &Context, object: &RegistryObject, namespaces: &[String]) {
    let visited = match caught(visit(context, object, namespaces)).await {
        Ok(visited) => visited,
        Err(PassError::Registry(error)) => Visited::failed(Why::from(&error)),
        Err(error) => {
            tracing::warn!(%error, registry = object.key.name, "the round failed; it is tried again");
            return;
        }
    };
    if let Err(error) = tell(context, object, &judged(context, object, visited)).await {
        tracing::warn!(%error, registry = object.key.name, "the registry's status could not be written");
    }
}

/// What a visit found.
#[derive(Default)]
struct Visited {
    capabilities: Option<RegistryCapabilities>,
    account_id: Option<String>,
    /// What is to be said if nothing is wrong.
    message: &'static str,
    wrong: Option<Why>,
}

impl Visited {
    fn failed(why: Why) -> Self {
        Self { wrong: Some(why), ..Self::default() }
    }
}

/// Asks the registry, judges what it shows, and sweeps where it lists its clients.
async fn visit(
    context: &Context,
    object: &RegistryObject,
    namespaces: &[String],
) -> Result<Visited, PassError> {
    let described = object.described.clone();
    let usable = match gather::find_driver(context, &object.key, described).await? {
        Ok(usable) => usable,
        Err(why) => return Ok(Visited::failed(why)),
    };
    let capabilities = Some(told(&usable.known.capabilities));
    let visited = match usable.known.not_ready.clone() {
        Some(why) => Visited::failed(why),
        None => ask(context, object, &usable, namespaces).await.or_else(|error| match error {
            PassError::Registry(error) => Ok(Visited::failed(Why::from(&error))),
            error => Err(error),
        })?,
    };
    Ok(Visited { capabilities, ..visited })
}

/// What people are told of a registry's capabilities.
fn told(capabilities: &Capabilities) -> RegistryCapabilities {
    // Whoever manages each client by a token of its own cannot remove the old one.
    let rotates = capabilities.rotation != Rotation::Recreate || capabilities.lists();
    RegistryCapabilities {
        rotation: if rotates { rotation::strategy(capabilities.rotation) } else { "None" }.into(),
        updates: capabilities.fields.values().any(|support| *support == Support::Settable),
        finds_lost_registrations: capabilities.lists(),
        shows_secrets: capabilities.shows_secrets,
    }
}

async fn ask(
    context: &Context,
    object: &RegistryObject,
    usable: &Usable,
    namespaces: &[String],
) -> Result<Visited, PassError> {
    if !usable.known.capabilities.lists() {
        let message = if usable.driver.answers().await? {
            "The issuer answers, and its metadata names a registration endpoint on its own origin"
        } else {
            "The registry was not asked: without an issuer there is nothing to read there"
        };
        return Ok(Visited { message, ..Visited::default() });
    }
    // The looks of clients ask as often; only the last list of a round itself is a little younger than the interval.
    let since = Instant::now().checked_sub(object.interval() * 19 / 20);
    let inventory = usable.session.inventory(usable.driver.as_ref(), since).await?;
    let wrong = match distrusted(context, object, usable, &inventory) {
        Some(why) => Some(why),
        None => sweep(context, object, usable.driver.as_ref(), &inventory, namespaces).await?,
    };
    let message = "The registry answers and shows the clients that were registered there";
    Ok(Visited { account_id: inventory.account_id.clone(), message, wrong, ..Visited::default() })
}

/// Why a list proves nothing, if so.
fn distrusted(
    context: &Context,
    object: &RegistryObject,
    usable: &Usable,
    inventory: &Inventory,
) -> Option<Why> {
    let Usable { known, session, .. } = usable;
    let clients = look::clients_of(context, &object.key);
    let none = clients.iter().all(|client| look::named(client).is_none());
    if look::shows_ours(context, &object.key, inventory) {
        session.learned().proven.clone_from(&known.credentials);
    }
    let proven = none || session.learned().proven == known.credentials || known.is_accepted();
    if !proven {
        return Some(next::account_unknown(&known.identity()));
    }
    look::mass_absence(context, &object.key, inventory, known)
}

/// Removes what bears our mark and nobody needs.
async fn sweep(
    context: &Context,
    object: &RegistryObject,
    driver: &dyn Registry,
    inventory: &Inventory,
    namespaces: &[String],
) -> Result<Option<Why>, PassError> {
    let clients = look::clients_of(context, &object.key);
    let mut failed = None;
    for (client, mark) in inventory.marked().filter(|(_, mark)| mark.is_of(&context.installation)) {
        if is_stray(context, &clients, client, mark, namespaces).await?
            && let Err(error) = remove(context, object, driver, client).await
        {
            // It keeps no other one from being removed.
            failed = Some(Why::from(&error));
        }
    }
    Ok(failed)
}

async fn remove(
    context: &Context,
    object: &RegistryObject,
    driver: &dyn Registry,
    client: &Client,
) -> Result<(), Error> {
    driver.deregister(client).await?;
    context.metrics.swept.inc();
    let (registry, client_id) = (&object.key.name, &client.client_id);
    tracing::info!(registry, client_id, "removed a client of ours that nobody needed");
    Ok(())
}

/// Whether a client that bears our mark is needed by nobody. Only the API server's own word counts before something is destroyed.
async fn is_stray(
    context: &Context,
    clients: &[Arc<OAuthClient>],
    client: &Client,
    mark: &ShownMark,
    namespaces: &[String],
) -> Result<bool, PassError> {
    let of_object = |uid: &str| mark.is_of_object(&context.installation, uid);
    let seen = clients.iter().find(|object| object.metadata.uid.as_deref().is_some_and(of_object));
    if let Some(seen) = seen {
        // Good enough for keeping it: a thousand clients at rest cost no read each.
        if look::named(seen) == Some(&client.client_id) {
            return Ok(false);
        }
        return match gather::live(context, seen).await? {
            Some(live) => {
                let pass = gather::gather(context, &live).await?;
                Ok(is_superseded(&pass.facts, client, mark))
            }
            // The next round sees it as one without an object.
            None => Ok(false),
        };
    }
    Ok(!lives(context, &of_object, namespaces).await? && !is_recorded(context, client, &of_object).await?)
}

/// Whether the object has gone on without this client: it names another one, and no attempt is open that may have made it.
fn is_superseded(facts: &Facts, client: &Client, mark: &ShownMark) -> bool {
    let Some(record) = facts.record() else { return !Rule::Sweep.holds() };
    let id = &client.client_id;
    let status = facts.client.status.as_ref();
    let told = status.and_then(|status| status.rotation.as_ref()).map(|rotation| &rotation.retiring);
    let named = status.and_then(|status| status.client_id.as_ref()) == Some(id)
        || told.is_some_and(|retiring| retiring.iter().any(|old| old.client_id == *id));
    let recorded =
        record.client.client_id == *id || record.state.retiring.iter().any(|old| old.client.client_id == *id);
    let intended = facts.intent.as_ref().is_some_and(|intent| {
        let for_it = intent.secret_for.as_ref().is_some_and(|named| named.client_id == *id);
        for_it || intent.retires.as_ref() == Some(id)
    });
    let needed = named || recorded || intended || is_open(facts, facts.intent.as_ref(), record, mark);
    !needed || !Rule::Sweep.holds()
}

/// Whether the attempt that made it may still come to something.
fn is_open(facts: &Facts, intent: Option<&Intent>, record: &Record, mark: &ShownMark) -> bool {
    let settled = intent.is_none_or(|intent| facts.since(intent.at) >= facts.settle);
    match mark {
        ShownMark::Full { nonce, .. } => {
            let current = intent.is_some_and(|intent| intent.nonce == *nonce && facts.unresolved().is_some());
            let replaced = intent.is_some_and(|intent| intent.replaces.as_ref() == Some(nonce) && !settled);
            // Of a request that arrived twice, the other one was stored.
            let twin = record.state.nonce == *nonce && !settled;
            current || replaced || twin
        }
        ShownMark::Tag(_) => facts.unresolved().is_some() || !settled,
    }
}

/// Whether an object of this mark is there, by a list of now.
async fn lives(
    context: &Context,
    of_object: &impl Fn(&str) -> bool,
    namespaces: &[String],
) -> Result<bool, PassError> {
    let scopes: Vec<Api<OAuthClient>> = match namespaces {
        [] => vec![Api::all(context.kube.clone())],
        some => some.iter().map(|namespace| Api::namespaced(context.kube.clone(), namespace)).collect(),
    };
    for scope in scopes {
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let found = call("list OAuthClients", scope.list_metadata(&page)).await?;
            if found.items.iter().any(|object| object.metadata.uid.as_deref().is_some_and(of_object)) {
                return Ok(true);
            }
            match following(page, &found.metadata) {
                Some(next) => page = next,
                None => break,
            }
        }
    }
    Ok(false)
}

/// Whether a record speaks of the client or its object: one that was retained, or that is looked after otherwise.
async fn is_recorded(
    context: &Context,
    client: &Client,
    of_object: &impl Fn(&str) -> bool,
) -> Result<bool, PassError> {
    let records = context.records();
    let mut page = ListParams::default().labels(record::LABEL).limit(PAGE);
    loop {
        let found = call("list the records", records.list(&page)).await?;
        // Also one that cannot be read says whose it is.
        let of_it = |secret: &Secret| {
            secret.annotations().get(annotations::OWNER_UID).is_some_and(|uid| of_object(uid))
        };
        let names = |secret: &Secret| {
            Record::read(secret).is_ok_and(|record| record.client.client_id == client.client_id)
        };
        if found.items.iter().any(|secret| of_it(secret) || names(secret)) {
            return Ok(true);
        }
        match following(page, &found.metadata) {
            Some(next) => page = next,
            None => return Ok(false),
        }
    }
}

/// The registry's status after a visit. What was not seen this time is as it was.
fn judged(context: &Context, object: &RegistryObject, visited: Visited) -> RegistryStatus {
    let old = object.status.clone().unwrap_or_default();
    let Visited { capabilities, account_id, message, wrong } = visited;
    let mut new = RegistryStatus {
        observed_generation: object.generation(),
        clients: Some(in_use::users(context).get(&object.key).copied().unwrap_or_default()),
        capabilities: capabilities.or(old.capabilities),
        account_id: account_id.or_else(|| old.account_id.filter(|_| wrong.is_some())),
        conditions: old.conditions,
    };
    let status = if wrong.is_none() { ConditionStatus::True } else { ConditionStatus::False };
    let progress = wrong.as_ref().map(|why| {
        if DEAD_ENDS.contains(&why.reason.as_str()) { conditions::STALLED } else { conditions::RECONCILING }
    });
    let why = wrong.unwrap_or_else(|| Why::new("Ready", message));
    let so =
        |type_, status| condition(type_, status, &why, Some(new.observed_generation), context.clock.now());
    let (ready, progress) =
        (so(conditions::READY, status), progress.map(|type_| so(type_, ConditionStatus::True)));
    conditions::set(&mut new.conditions, ready);
    conditions::set_kstatus(&mut new.conditions, progress);
    new
}

/// Writes the registry's status, if it says something else.
async fn tell(context: &Context, object: &RegistryObject, new: &RegistryStatus) -> Result<(), PassError> {
    if object.status.as_ref() == Some(new) {
        return Ok(());
    }
    // A merge keeps what it is not told to take away.
    let status = json!({"status": {
        "observedGeneration": new.observed_generation,
        "clients": new.clients,
        "capabilities": new.capabilities,
        "accountId": new.account_id,
        "conditions": new.conditions,
    }});
    registry_objects::patch(context, &object.key, "write the registry's status", Part::Status, &status).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{OAuthClientStatus, RetiringClient, RotationStatus},
        reconcile::{
            intent::Named,
            next::tests::given::{SETTLE, ago, another, now, ready},
            record::Retiring,
        },
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn full(nonce: &str) -> ShownMark {
        ShownMark::Full { installation: "installation".into(), uid: "uid-1".into(), nonce: nonce.into() }
    }

    /// The object has gone on with `id-1` of the attempt `nonce-1`, an hour ago; a client `id-2` bears its mark.
    fn is_stray(facts: &Facts, mark: &ShownMark) -> bool {
        is_superseded(facts, &another("id-2"), mark)
    }

    #[test]
    fn a_client_is_superseded_when_nobody_names_it_and_no_attempt_may_come_to_it() {
        let intended =
            |change: fn(&mut Intent)| ready().but(|facts| facts.intent.as_mut().map_or((), change));
        let status = |status: OAuthClientStatus| ready().but(|facts| facts.client.status = Some(status));
        let retiring = vec![RetiringClient { client_id: "id-2".into(), until: Time(now()) }];
        let rotation = Some(RotationStatus { retiring, ..RotationStatus::default() });
        let kept = Retiring { client: Named::of(&another("id-2")), until: now() };
        let cases = vec![
            (ready(), true, "nobody needs it"),
            (ready().but(|facts| facts.intent = None), true, "nor without an intent"),
            (ready().but(|facts| facts.record = Ok(None)), false, "no record: it may be adopted"),
            (
                ready().but(|facts| facts.record = Err("broken".into())),
                false,
                "nobody knows what the record says",
            ),
            (
                ready().but(|facts| facts.stored().client.client_id = "id-2".into()),
                false,
                "it is the record's",
            ),
            (ready().but(|facts| facts.stored().state.retiring = vec![kept]), false, "it works for a while"),
            (
                status(OAuthClientStatus { client_id: Some("id-2".into()), ..Default::default() }),
                false,
                "status names it",
            ),
            (
                status(OAuthClientStatus { rotation, ..Default::default() }),
                false,
                "status says that it retires",
            ),
            (intended(|intent| intent.retires = Some("id-2".into())), false, "it is to retire"),
            (
                intended(|intent| intent.secret_for = Some(Named::of(&another("id-2")))),
                false,
                "a secret is issued for it",
            ),
        ];
        for (facts, stray, reason) in cases {
            assert_eq!(is_stray(&facts, &full("nonce-0")), stray, "{reason}");
        }
    }

    #[test]
    fn what_an_open_attempt_may_have_made_is_kept() {
        let settle = i64::try_from(SETTLE.as_secs()).unwrap();
        let began = |seconds| ready().but(|facts| facts.intent.as_mut().unwrap().at = ago(seconds));
        let tag = ShownMark::Tag("af123b-a75079c1d35c-af55".into());
        let cases = vec![
            (ready().replacing(settle * 2), full("nonce-2"), false, "its outcome is unknown, however long"),
            (ready().replacing(settle * 2).refused(false), full("nonce-2"), true, "it was refused"),
            (ready().replacing(settle - 1), full("nonce-1"), false, "a late twin of what is replaced"),
            (ready().replacing(settle), full("nonce-1"), true, "that must be over"),
            (began(settle - 1), full("nonce-1"), false, "of a request that arrived twice"),
            (began(settle), full("nonce-1"), true, "the other one was stored long ago"),
            (ready().replacing(settle * 2), full("nonce-0"), true, "of an attempt before"),
            (ready().replacing(settle * 2), tag.clone(), false, "a tag does not tell attempts apart"),
            (began(settle - 1), tag.clone(), false, "nor when one has just ended"),
            (began(settle), tag, true, "nothing is open"),
        ];
        for (facts, mark, stray, reason) in cases {
            assert_eq!(is_stray(&facts, &mark), stray, "{reason}");
        }
    }
}
