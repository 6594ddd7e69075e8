//! Looks at a registry, and what they prove: one list serves all its clients, and absence is believed only with proof.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::Store;
use tokio::time::Instant;

use super::{
    Context, PassError,
    facts::{Asked, Facts, InHand, Known, Search, Why, fingerprint},
    gather::{Pass, key_of},
    next::account_unknown,
    protocol::Rule,
    record::Record,
};
use crate::{
    api::{OAuthClient, annotations, conditions},
    registry::{Adoption, Client, Error, Inventory, Kind, SessionKey},
};

/// Where a list does not show everything, each client is read on its own at every so many inventories.
const WHOLE_EVERY: u64 = 6;
/// Two misses count as two if they lie so far apart.
const BETWEEN_MISSES: Duration = Duration::from_secs(20);
/// So many may vanish at once and be believed; beyond that a tenth.
const FEW: usize = 3;

/// Clients that a registry did not show. A hint: after a restart it takes two misses again, and people are asked again.
#[derive(Default)]
pub struct Misses {
    since: Mutex<HashMap<String, Miss>>,
    accepted: Mutex<HashSet<String>>,
}

struct Miss {
    first: Instant,
    /// Whether something speaks against believing it that only a list can settle.
    held: bool,
}

impl Misses {
    /// Notes a miss; returns whether it is the second one.
    fn again(&self, uid: &str) -> bool {
        let mut misses = self.misses();
        let miss =
            misses.entry(uid.to_owned()).or_insert_with(|| Miss { first: Instant::now(), held: false });
        miss.first.elapsed() >= BETWEEN_MISSES
    }

    fn hold(&self, uid: &str, held: bool) {
        if let Some(miss) = self.misses().get_mut(uid) {
            miss.held = held;
        }
    }

    fn is_held(&self, uid: &str) -> bool {
        self.misses().get(uid).is_some_and(|miss| miss.held)
    }

    /// It is there.
    pub fn forget(&self, uid: &str) {
        self.misses().remove(uid);
    }

    fn misses(&self) -> MutexGuard<'_, HashMap<String, Miss>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has said that these ids are gone: that stands while one after another is replaced.
    fn accept(&self, ids: Vec<String>) {
        self.accepted().extend(ids);
    }

    fn accepted(&self) -> MutexGuard<'_, HashSet<String>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The objects whose clients should be at a registry, as watched.
pub fn clients_of(context: &Context, key: &SessionKey) -> Vec<Arc<OAuthClient>> {
    let of_it = |client: &Arc<OAuthClient>| key_of(client) == *key;
    context.clients.iter().flat_map(Store::state).filter(of_it).collect()
}

/// The id that an object's status names, unless it also says that the client is gone.
pub fn named(client: &OAuthClient) -> Option<&str> {
    let status = client.status.as_ref()?;
    let ready = conditions::find(&status.conditions, conditions::READY);
    let gone = ready.is_some_and(|ready| ready.reason == "ClientGone");
    status.client_id.as_deref().filter(|_| !gone)
}

/// Credentials are believed to open the right account if they registered this client, if there is none that they could lack, or
/// if somebody has said so.
pub fn believe(context: &Context, pass: &mut Pass) {
    let Ok(known) = &pass.facts.registry else { return };
    if known.proven || known.credentials.is_none() {
        return;
    }
    let ours = pass.facts.record().is_some_and(|record| record.state.credentials == known.credentials);
    if ours {
        prove(pass);
        return;
    }
    let key = key_of(&pass.facts.client);
    let none = pass.facts.record().is_none()
        && clients_of(context, &key).iter().all(|client| named(client).is_none());
    if let Ok(known) = &mut pass.facts.registry {
        // For this pass only: of a record without an object nothing is known here, and a word can be taken back.
        known.proven = none || known.is_accepted();
    }
}

/// These credentials have shown or registered a client of ours.
pub fn prove(pass: &mut Pass) {
    if let (Some(session), Ok(known)) = (&pass.session, &mut pass.facts.registry) {
        known.proven = true;
        session.learned().proven.clone_from(&known.credentials);
    }
}

/// An inventory that was asked for after `since`, and what it proves of the account.
async fn inventory(
    context: &Context,
    pass: &mut Pass,
    since: Option<Instant>,
) -> Result<Arc<Inventory>, PassError> {
    let session =
        pass.session.clone().ok_or_else(|| PassError::Internal("a registry without a session".into()))?;
    let inventory = session.inventory(pass.driver()?, since).await?;
    if let Ok(known) = &mut pass.facts.registry {
        known.account_id = inventory.account_id.clone().or(known.account_id.take());
        // Somebody else may have learned it since this pass began.
        let proven = session.learned().proven == known.credentials;
        let believed = known.proven;
        let of_record =
            pass.facts.record().is_some_and(|record| inventory.get(&record.client.client_id).is_some());
        if !believed && (proven || of_record || shows_ours(context, &key_of(&pass.facts.client), &inventory))
        {
            prove(pass);
        }
    }
    Ok(inventory)
}

/// Whether an inventory shows a client that an object of this registry names, or that bears the object's mark: of a new one whose
/// operator died, nothing else tells.
pub fn shows_ours(context: &Context, key: &SessionKey, inventory: &Inventory) -> bool {
    let clients = clients_of(context, key);
    let is_marked = |client: &Arc<OAuthClient>| {
        let uid = client.metadata.uid.as_deref().unwrap_or_default();
        inventory.marked().any(|(_, mark)| mark.is_of_object(&context.installation, uid))
    };
    clients.iter().any(|client| named(client).is_some_and(|id| inventory.get(id).is_some()))
        || clients.iter().any(is_marked)
}

/// Finds out whether the credentials open the account in which our clients are.
pub async fn survey(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let since = Instant::now().checked_sub(interval(pass));
    match inventory(context, pass, since).await {
        // A deletion does not wait for it for ever.
        Err(PassError::Registry(error)) if pass.facts.deleting() => {
            pass.facts.progress.deregister_error = Some(error);
        }
        surveyed => {
            surveyed?;
            pass.facts.progress.surveyed = true;
        }
    }
    Ok(())
}

fn interval(pass: &Pass) -> Duration {
    pass.facts.registry.as_ref().map_or(super::SLOWLY, |known| known.drift_interval)
}

/// Looks at the record's client, in the inventory where that is enough.
pub async fn look(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let Some(record) = pass.facts.record().cloned() else {
        return Err(PassError::Internal("a rule asked for a record that is not there".into()));
    };
    let lists = pass.facts.registry.as_ref().is_ok_and(|known| known.capabilities.lists());
    let seen = if lists {
        look_in_inventory(pass, context, &record).await
    } else {
        observe(pass, &record.client).await
    };
    let seen = match seen {
        // It is still good for everything else. Whether it is so for its other clients, and for how long, nobody has said.
        Err(PassError::Registry(error)) if error.kind == Kind::Unsupported => {
            tracing::debug!(%error, "the registry does not let this client be looked at");
            pass.facts.progress.looked = true;
            pass.facts.look_due = false;
            return Ok(());
        }
        Err(PassError::Registry(error)) if lists && error.kind == Kind::Unauthorized => {
            is_elsewhere(pass, context, &record, error).await?;
            None
        }
        seen => seen?,
    };
    // One that is missing was not seen.
    pass.facts.progress.looked = seen.is_some() || !lists;
    if let (Some(session), Ok(known)) = (&pass.session, &mut pass.facts.registry) {
        known.shown.clone_from(&session.learned().shown);
    }
    match seen {
        Some(seen) => saw(pass, context, &record.client, seen.keeping_credentials(&record.client)),
        None if lists => return missing(pass, context).await,
        None => pass.facts.progress.gone = true,
    }
    Ok(())
}

async fn observe(pass: &Pass, client: &Client) -> Result<Option<Client>, PassError> {
    Ok(pass.driver()?.observe(client).await?)
}

/// Credentials that may not read a client, did not register it and whose list lacks it open another account. Anything else is a
/// lack of rights, and so it is in an account that has shown clients of ours, unless somebody says that it is the right one.
async fn is_elsewhere(
    pass: &mut Pass,
    context: &Context,
    record: &Record,
    error: Error,
) -> Result<(), PassError> {
    let inventory = inventory(context, pass, Instant::now().checked_sub(interval(pass))).await?;
    let elsewhere = pass.facts.registry.as_ref().is_ok_and(|known| {
        let believed = !known.proven || known.is_accepted();
        believed && known.credentials != record.state.credentials
    });
    let listed = inventory.get(&record.client.client_id).is_some();
    if elsewhere && !listed { Ok(()) } else { Err(error.into()) }
}

async fn look_in_inventory(
    pass: &mut Pass,
    context: &Context,
    record: &Record,
) -> Result<Option<Client>, PassError> {
    if pass.facts.look_closely {
        return observe(pass, &record.client).await;
    }
    let held = context.misses.is_held(pass.facts.uid());
    let age = if held { super::SOON } else { interval(pass) };
    let inventory = inventory(context, pass, Instant::now().checked_sub(age)).await?;
    // It knows nothing of what we wrote since.
    let older = context.looks.changed_at(pass.facts.uid()).is_some_and(|at| inventory.taken < at);
    let whole = pass.facts.registry.as_ref().is_ok_and(|known| known.capabilities.list_is_whole);
    match inventory.get(&record.client.client_id) {
        Some(line) if !older && (whole || !turn(pass.facts.uid(), inventory.number)) => {
            Ok(Some(line.clone().over(&record.client)))
        }
        // One list tells it of all of them; asking for each would fill the registry's limit.
        None if held && holds(pass, context, &inventory).is_some() => Ok(None),
        _ => observe(pass, &record.client).await,
    }
}

/// Whether it is this client's turn to be read whole: each has its own, so that they spread.
fn turn(uid: &str, number: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish() % WHOLE_EVERY == number % WHOLE_EVERY
}

fn saw(pass: &mut Pass, context: &Context, known: &Client, seen: Client) {
    context.misses.forget(pass.facts.uid());
    let put_right =
        pass.facts.record().is_some_and(|record| !pass.facts.put_right(record, &seen.document).is_empty());
    if !known.has_credentials_of(&seen) || put_right {
        pass.facts.progress.in_hand = Some(InHand { client: seen.clone(), to: Asked::Look });
    }
    pass.facts.progress.seen = Some(seen);
}

/// The registry answers that it has no such client. That counts at the second time, from the right account, and not if many are
/// missing at once.
async fn missing(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let inventory = inventory(context, pass, Instant::now().checked_sub(interval(pass))).await?;
    let Ok(known) = &pass.facts.registry else { return Ok(()) };
    let key = key_of(&pass.facts.client);
    let again = context.misses.again(pass.facts.uid());
    let shown = pass.session.as_ref().and_then(|session| session.learned().proven.clone());
    if shown != known.credentials && known.is_accepted() {
        // Whoever says that this account is right has read that it shows none of them.
        context.misses.accept(vanished(context, &key, &inventory).0);
    }
    let held = holds(pass, context, &inventory);
    context.misses.hold(pass.facts.uid(), held.is_some());
    let once = || {
        let message = "the registry answers that it has no such client; it is looked for once more before that is believed";
        Why::new("ClientMissing", message)
    };
    let why = held.or_else(|| (!again).then(once)).filter(|_| Rule::ProvenAbsence.holds());
    pass.facts.progress.gone = why.is_none();
    pass.facts.progress.missing = why;
    Ok(())
}

/// Why no absence is believed, whatever the registry says of a single client.
fn holds(pass: &Pass, context: &Context, inventory: &Inventory) -> Option<Why> {
    let known = pass.facts.registry.as_ref().ok()?;
    if !known.proven && !known.is_accepted() {
        return Some(account_unknown(&known.identity()));
    }
    mass_absence(context, &key_of(&pass.facts.client), inventory, known)
}

/// Many clients that vanish at once point to a restored backup or the wrong account, not to so many deletions.
pub fn mass_absence(
    context: &Context,
    key: &SessionKey,
    inventory: &Inventory,
    known: &Known,
) -> Option<Why> {
    let (missing, all) = vanished(context, key, inventory);
    if !is_mass(missing.len(), all) || !Rule::MassAbsence.holds() {
        return None;
    }
    let token = fingerprint(&(known.identity(), &missing));
    if known.accepted.as_deref() == Some(token.as_str()) {
        context.misses.accept(missing);
        return None;
    }
    let message = format!(
        "{} of {all} clients have vanished from the registry at once; nothing is replaced until they are back, or until somebody \
         annotates the registry with {}={token}",
        missing.len(),
        annotations::ACCEPT
    );
    Some(Why::new("MassAbsence", message))
}

/// The ids that an inventory lacks and nobody has accepted as gone, in order, and how many there should be. It knows nothing of
/// those that were registered later.
fn vanished(context: &Context, key: &SessionKey, inventory: &Inventory) -> (Vec<String>, usize) {
    let older = |client: &Arc<OAuthClient>| {
        let changed = context.looks.changed_at(client.metadata.uid.as_deref().unwrap_or_default());
        changed.is_none_or(|at| at <= inventory.taken)
    };
    let clients = clients_of(context, key);
    let named: Vec<_> = clients.iter().filter_map(|client| Some((client, named(client)?))).collect();
    let accepted = context.misses.accepted();
    let is_missing = |id: &str| inventory.get(id).is_none() && !accepted.contains(id);
    let missing = named.iter().filter(|(client, id)| is_missing(id) && older(client));
    let mut missing: Vec<String> = missing.map(|(_, id)| (*id).to_owned()).collect();
    missing.sort_unstable();
    (missing, named.len())
}

fn is_mass(missing: usize, all: usize) -> bool {
    missing > FEW.max(all / 10)
}

/// Searches for what an attempt may have made of which nobody saw the end.
pub async fn search(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let Some(intent) = pass.facts.intent.clone() else { return Ok(()) };
    if let Some(named) = &intent.secret_for {
        let client = pass.facts.record().map_or_else(|| named.client(), |record| record.client.clone());
        return match observe(pass, &client).await? {
            // Without a record only the mark tells that the client is ours: everybody who may write the object could have named it.
            Some(seen)
                if pass.facts.record().is_some()
                    || is_of_object(&pass.facts, &seen)
                    || !Rule::Trust.holds() =>
            {
                found(pass, seen.over(&client));
                Ok(())
            }
            None if pass.facts.record().is_some() => missing(pass, context).await,
            Some(_) | None => {
                pass.facts.progress.searched = Some(Search::Nothing);
                Ok(())
            }
        };
    }
    // Of now: what an older list shows says nothing about an attempt.
    let inventory = inventory(context, pass, Some(Instant::now())).await?;
    let mark = pass.facts.mark(&intent);
    let record = pass.facts.record().map(|record| record.client.client_id.clone());
    let mut ours: Vec<&Client> = inventory
        .marked()
        .filter(|(client, shown)| mark.is(shown) && Some(&client.client_id) != record.as_ref())
        .map(|(client, _)| client)
        .collect();
    ours.sort_by_key(|client| (client.registered_at, client.client_id.clone()));
    if let Some(client) = ours.first() {
        found(pass, (*client).clone());
        return Ok(());
    }
    pass.facts.progress.searched = Some(Search::Nothing);
    if let Some(conflict) = pass.facts.progress.conflict.take() {
        pass.facts.progress.announced = true;
        pass.facts.progress.refused = Some(conflict);
    }
    Ok(())
}

fn is_of_object(facts: &Facts, client: &Client) -> bool {
    client.mark.as_ref().is_some_and(|mark| mark.is_of_object(&facts.installation, facts.uid()))
}

fn found(pass: &mut Pass, client: Client) {
    let adoption = pass.facts.registry.as_ref().map(|known| known.capabilities.adoption);
    pass.facts.progress.searched = Some(Search::Found);
    if adoption == Ok(Adoption::AsShown) {
        pass.facts.progress.in_hand = Some(InHand { client, to: Asked::Register });
    } else {
        pass.facts.progress.adopting = Some(client);
    }
}

/// Reads the client that status names: its record was lost with the user's Secret.
pub async fn recover(pass: &mut Pass, context: &Context, client: &Client) -> Result<(), PassError> {
    match observe(pass, client).await? {
        Some(client) => {
            context.misses.forget(pass.facts.uid());
            pass.facts.progress.in_hand = Some(InHand { client, to: Asked::Recover });
            Ok(())
        }
        None => missing(pass, context).await,
    }
}

/// What else bears the object's mark, in a list of now.
pub async fn marked(pass: &mut Pass, context: &Context) -> Result<Vec<Client>, Error> {
    let listed = inventory(context, pass, Some(Instant::now())).await;
    let inventory = match listed {
        Ok(inventory) => inventory,
        Err(PassError::Registry(error)) => return Err(error),
        Err(error) => return Err(Error::new(Kind::Unavailable, error)),
    };
    let (installation, uid) = (&pass.facts.installation, pass.facts.uid());
    Ok(inventory
        .marked()
        .filter(|(_, shown)| shown.is_of_object(installation, uid))
        .map(|(client, _)| client.clone())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_may_vanish_and_many_may_not() {
        let cases = [
            (1, 1, false, "the only one"),
            (3, 3, false, "three of three: the account is judged otherwise"),
            (4, 4, true, "more than three"),
            (4, 39, true, "more than three, and more than a tenth"),
            (4, 40, false, "a tenth"),
            (100, 1000, false, "a tenth"),
            (101, 1000, true, "more than a tenth"),
        ];
        for (missing, all, mass, reason) in cases {
            assert_eq!(is_mass(missing, all), mass, "{missing} of {all}: {reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_miss_counts_at_the_second_time_with_some_time_between() {
        let misses = Misses::default();
        assert!(!misses.again("a"), "the first");
        tokio::time::advance(BETWEEN_MISSES.saturating_sub(Duration::from_secs(1))).await;
        assert!(!misses.again("a"), "too soon");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(misses.again("a") && !misses.again("b"), "the second, and another one's first");
        misses.forget("a");
        assert!(!misses.again("a"), "it was there meanwhile");
    }

    #[test]
    fn an_object_names_its_client_unless_it_says_that_it_is_gone() {
        let of = |status: serde_json::Value| {
            let object = serde_json::json!({
                "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient", "metadata": {"name": "app"},
                "spec": {"registryRef": {"name": "dev"}}, "status": status,
            });
            let client: OAuthClient = serde_json::from_value(object).unwrap();
            named(&client).map(str::to_owned)
        };
        let saying = |reason: &str| {
            serde_json::json!({"observedGeneration": 1, "clientId": "id-1", "conditions": [{
                "type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2030-01-01T00:00:00Z",
            }]})
        };
        assert_eq!(of(serde_json::json!(null)), None, "nothing was said yet");
        assert_eq!(of(saying("ClientMissing")).as_deref(), Some("id-1"), "missing is not gone");
        assert_eq!(of(saying("ClientGone")), None, "nobody waits for it");
    }

    #[test]
    fn every_client_has_its_turn_once_in_a_round_and_they_spread() {
        let uids: Vec<String> = (0..600).map(|n| format!("uid-{n}")).collect();
        let at = |number| uids.iter().filter(|uid| turn(uid, number)).count();
        assert_eq!((0..WHOLE_EVERY).map(at).sum::<usize>(), uids.len(), "each once");
        assert!((0..WHOLE_EVERY).all(|number| (60..140).contains(&at(number))), "spread");
    }
}
