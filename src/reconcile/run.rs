//! Runs one effect and adds what it brought to the facts.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{
    Context, PassError, call,
    facts::{self, Asked, Facts, InHand},
    gather::{self, Pass},
    intent::Intent,
    look,
    next::{Effect, named_only},
    protocol::Rule,
    record::{self, Place, Record, Released, Retiring},
    secret::{self, Found},
};
use crate::{
    api::{FINALIZER, OAuthClient, annotations, conditions},
    registry::{
        Adoption, Client, ClientMetadata, Error, Field, Kind, Management, MarkPlace, Registry, Retry,
        ShownMark, Wanted, error::quote,
    },
};

/// The commit of a registration is tried for this long: what it would lose, nobody else has. Longer than an API server takes to be
/// replaced by another version; an end of the process does not wait for it (`--shutdown-timeout`).
const COMMIT_FOR: Duration = Duration::from_mins(10);

/// Runs one effect.
pub async fn run(effect: Effect, pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    match effect {
        Effect::Prepare => prepare(pass).await,
        Effect::Announce(intent) => announce(pass, context, &intent).await,
        Effect::Register(wanted) => register(pass, &wanted).await,
        Effect::NoteRefusal(intent) => note_refusal(pass, context, &intent).await,
        Effect::Acknowledge(intent) => annotate(pass, context, &intent).await,
        Effect::AddFinalizer => add_finalizer(pass, context).await,
        Effect::Store(record) => store(pass, context, *record).await,
        Effect::Publish => publish(pass, context).await,
        Effect::Look => look::look(pass, context).await,
        Effect::Search => look::search(pass, context).await,
        Effect::Survey => look::survey(pass, context).await,
        Effect::Recover(client) => look::recover(pass, context, &client).await,
        Effect::IssueSecret(client) => issue_secret(pass, *client).await,
        Effect::RevokeSecret(id) => revoke_secret(pass, id).await,
        Effect::Retire(old) => retire(pass, old).await,
        Effect::DeregisterMarked => deregister_marked(pass, context).await,
        Effect::Update { wanted, reset } => update(pass, context, &wanted, &reset).await,
        Effect::Deregister => deregister(pass, context).await,
        Effect::DeregisterStray(client) => deregister_stray(pass, &client).await,
        Effect::Release(why) => release(pass, context, why).await,
        Effect::DeleteRecord => delete_record(pass, context).await,
        Effect::RemoveFinalizer => remove_finalizer(pass, context).await,
    }
}

fn record_of(facts: &Facts) -> Result<&Record, PassError> {
    facts.record().ok_or_else(|| PassError::Internal("a rule asked for a record that is not there".into()))
}

async fn prepare(pass: &mut Pass) -> Result<(), PassError> {
    pass.driver()?.prepare().await?;
    pass.facts.progress.prepared = true;
    Ok(())
}

/// Finalizer and intent, in one patch that fails if our view of the object is stale.
async fn announce(pass: &mut Pass, context: &Context, intent: &Intent) -> Result<(), PassError> {
    if is_announced_anew(&pass.facts) {
        annotate(pass, context, intent).await?;
    } else if pass.facts.intent.is_none() {
        pass.facts.intent = Some(intent.clone());
    }
    pass.facts.progress.announced = true;
    if let Some(suspect) = intent.suspects.last().filter(|_| intent.attempt > 1) {
        let message = format!(
            "nobody knows whether an earlier registration made a client (software_id {}); registering again, attempt {}",
            facts::software_id(&pass.facts.client, &suspect.nonce),
            intent.attempt
        );
        pass.facts.progress.warn("SuspectedOrphan", message);
    }
    Ok(())
}

/// Always, as long as the rules hold.
fn is_announced_anew(facts: &Facts) -> bool {
    Rule::WriteAhead.holds() && (Rule::Nonce.holds() || facts.unresolved().is_none())
}

/// What became of an attempt stays true when somebody has changed the object meanwhile; only then nothing else is.
async fn note_refusal(pass: &mut Pass, context: &Context, intent: &Intent) -> Result<(), PassError> {
    match annotate(pass, context, intent).await {
        Err(PassError::Stale) => {}
        other => return other,
    }
    let live = gather::live(context, &pass.facts.client).await?;
    if let Some(live) = live.filter(|live| Intent::of(live) == pass.facts.intent) {
        pass.facts.client = live;
        annotate(pass, context, intent).await?;
    }
    Err(PassError::Stale)
}

async fn annotate(pass: &mut Pass, context: &Context, intent: &Intent) -> Result<(), PassError> {
    let text = intent.to_text().map_err(|e| PassError::Internal(format!("the intent is no JSON: {e}")))?;
    let metadata = json!({"annotations": {annotations::INTENT: text}, "finalizers": with_finalizer(pass)});
    patch_metadata(pass, context, "announce the registration on the OAuthClient", metadata).await
}

fn with_finalizer(pass: &Pass) -> Vec<String> {
    let mut finalizers = pass.facts.client.metadata.finalizers.clone().unwrap_or_default();
    if !pass.facts.finalized() {
        finalizers.push(FINALIZER.into());
    }
    finalizers
}

async fn add_finalizer(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let metadata = json!({"finalizers": with_finalizer(pass)});
    patch_metadata(pass, context, "hold on to the OAuthClient", metadata).await
}

async fn remove_finalizer(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let mut finalizers = pass.facts.client.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    patch_metadata(pass, context, "let the OAuthClient go", json!({"finalizers": finalizers})).await?;
    say_what_may_be_left(pass, context);
    Ok(())
}

/// The last word about what nobody can look after any more.
fn say_what_may_be_left(pass: &mut Pass, context: &Context) {
    let facts = &mut pass.facts;
    let status = facts.client.status.as_ref();
    let named = status.and_then(|status| status.client_id.as_ref());
    let ready = status.and_then(|status| conditions::find(&status.conditions, conditions::READY));
    let lost = !facts.progress.deregistered
        && (ready.is_some_and(|ready| ready.reason == "RecordLost") || named_only(facts));
    let open = facts.intent.as_ref().filter(|intent| match &facts.record {
        _ if intent.refused.is_some() => false,
        Ok(Some(record)) => intent.replaces.as_ref() == Some(&record.state.nonce),
        _ => !facts.progress.deregistered && (intent.replaces.is_some() || named.is_none()),
    });
    let message = match (&facts.record, open, named) {
        (Err(why), ..) => format!(
            "the client may still be at the registry: its record {} cannot be read ({why}) and is kept",
            record::name(facts.uid())
        ),
        (Ok(None), _, Some(id)) if lost => {
            format!("client {id} may still be at the registry: its record is gone")
        }
        (Ok(_), Some(intent), _) => format!(
            "nobody knows whether a registration made a client (software_id {}); nobody holds its secret",
            facts::software_id(&facts.client, &intent.nonce)
        ),
        (Ok(_), None, _) => {
            let message = facts::suspects(&facts.client, facts.intent.as_ref());
            return message.into_iter().for_each(|message| facts.progress.warn("SuspectedOrphan", message));
        }
    };
    context.metrics.abandoned.inc();
    facts.progress.warn("Abandoned", message);
}

/// Every write to the object carries the `resourceVersion` of the pass.
async fn patch_metadata(
    pass: &mut Pass,
    context: &Context,
    what: &'static str,
    mut metadata: serde_json::Value,
) -> Result<(), PassError> {
    if Rule::Guard.holds() {
        metadata["resourceVersion"] = json!(pass.facts.client.metadata.resource_version);
    }
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let clients: Api<OAuthClient> =
        Api::namespaced(context.kube.clone(), &pass.facts.client.namespace().unwrap_or_default());
    let name = pass.facts.client.name_any();
    let patched = call(what, clients.patch(&name, &PatchParams::default(), &patch)).await?;
    pass.facts.intent = Intent::of(&patched);
    pass.facts.client = patched;
    Ok(())
}

async fn register(pass: &mut Pass, wanted: &Wanted) -> Result<(), PassError> {
    let outcome = pass.driver()?.register(wanted).await;
    let capabilities =
        pass.facts.registry.as_ref().map(|known| known.capabilities.clone()).unwrap_or_default();
    let progress = &mut pass.facts.progress;
    // Its turn was taken for one request.
    progress.prepared = false;
    match outcome {
        Ok(client) if client.client_secret.is_none() && capabilities.adoption == Adoption::WithNewSecret => {
            progress.adopting = Some(client);
        }
        // Names are unique there: it may be ours.
        Err(error) if error.kind == Kind::Conflict && capabilities.adopts() => {
            progress.announced = false;
            progress.conflict = Some(error);
        }
        Ok(client) => progress.in_hand = Some(InHand { client, to: Asked::Register }),
        Err(error) if error.kind == Kind::Ambiguous => {
            progress.announced = false;
            progress.warn("OutcomeUnknown", error.summary);
        }
        Err(error) => progress.refused = Some(error),
    }
    Ok(())
}

async fn issue_secret(pass: &mut Pass, client: Client) -> Result<(), PassError> {
    let outcome = pass.driver()?.issue_secret(&client).await;
    let of_record = pass.facts.record().is_some_and(|record| record.client.client_id == client.client_id);
    let progress = &mut pass.facts.progress;
    progress.adopting = None;
    progress.prepared = false;
    match outcome {
        Ok(issued) => {
            let to = if of_record { Asked::IssueSecret } else { Asked::Register };
            let (secret_id, secret_hint) = (issued.id, issued.hint);
            let client = Client { client_secret: Some(issued.secret), secret_id, secret_hint, ..client };
            progress.in_hand = Some(InHand { client, to });
        }
        Err(error) if error.kind == Kind::Ambiguous => {
            progress.announced = false;
            progress.warn("OutcomeUnknown", error.summary);
        }
        Err(error) => progress.refused = Some(error),
    }
    Ok(())
}

async fn revoke_secret(pass: &mut Pass, id: String) -> Result<(), PassError> {
    let client = record_of(&pass.facts)?.client.clone();
    pass.driver()?.revoke_secret(&client, &id).await?;
    pass.facts.progress.revoked.push(id);
    pass.facts
        .progress
        .note("SecretRevoked", format!("an earlier secret of client {} no longer works", client.client_id));
    Ok(())
}

async fn retire(pass: &mut Pass, old: Retiring) -> Result<(), PassError> {
    pass.driver()?.deregister(&old.client.client()).await?;
    let id = old.client.client_id;
    pass.facts.progress.note("Retired", format!("removed the earlier client {id}"));
    pass.facts.progress.retired.push(id);
    Ok(())
}

/// Creates the record, or updates it under the version that was read.
async fn store(pass: &mut Pass, context: &Context, record: Record) -> Result<(), PassError> {
    let made = pass.facts.progress.in_hand.as_ref().is_some_and(|reply| reply.to == Asked::Register);
    if made && !Rule::Commit.holds() {
        pass.facts.progress.in_hand = None;
        pass.facts.record = Ok(Some(record));
        return Ok(());
    }
    let committed = match record.place {
        Place::Apart => commit(context, &record).await,
        Place::WithSecret => commit_with_secret(context, &pass.facts, &record).await,
    };
    match committed {
        Ok(Committed::Stored(stored)) => {
            stored_now(pass, context, record, stored);
            Ok(())
        }
        Ok(Committed::Taken(theirs)) => taken(pass, record.place, theirs).await,
        Err(error) if made && error.is_definite() => {
            // Policies may quote what they refuse.
            let error = quote(&error.to_string(), &record.secrets());
            let summary = format!("the record cannot be stored, so the new client is removed again: {error}");
            pass.facts.progress.refused = Some(Error::new(Kind::Unavailable, summary));
            pass.facts.progress.stray = pass.facts.progress.in_hand.take().map(|reply| reply.client);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Another one stands where ours should.
async fn taken(pass: &mut Pass, place: Place, theirs: Secret) -> Result<(), PassError> {
    let theirs = match place {
        Place::Apart => Record::read(&theirs),
        Place::WithSecret => {
            let found = secret::judge(Some(theirs), pass.facts.uid());
            let beside = match &found {
                Found::Ours(secret) => Record::beside(secret, &pass.facts.client),
                Found::Absent | Found::Foreign => None,
            };
            pass.facts.secret = found;
            let Some(beside) = beside else { return in_vain(pass) };
            Ok(beside)
        }
    };
    let in_vain = theirs.as_ref().ok().and_then(|theirs| issued_in_vain(&pass.facts, theirs));
    let goes_on = pass.facts.lose_the_race(theirs);
    if let Some((client, id)) = in_vain.filter(|_| !goes_on || pass.facts.progress.in_hand.is_none()) {
        pass.driver()?.revoke_secret(&client, &id).await?;
    }
    if goes_on { Ok(()) } else { Err(PassError::Stale) }
}

/// A secret in hand that the record which stands does not know: it would work for ever, and nobody could tell whose it is.
fn issued_in_vain(facts: &Facts, theirs: &Record) -> Option<(Client, String)> {
    let issued = |reply: &&InHand| matches!(reply.to, Asked::Register | Asked::IssueSecret);
    let ours = &facts.progress.in_hand.as_ref().filter(issued)?.client;
    let previous = theirs.state.previous.iter().map(|previous| &previous.id);
    let known: Vec<&String> = theirs.client.secret_id.iter().chain(previous).collect();
    let id = ours.secret_id.as_ref().filter(|id| !known.contains(id))?;
    (ours.client_id == theirs.client.client_id).then(|| (ours.clone(), id.clone()))
}

/// Somebody has put a Secret of theirs there meanwhile.
fn in_vain(pass: &mut Pass) -> Result<(), PassError> {
    let progress = &mut pass.facts.progress;
    if progress.in_hand.as_ref().is_none_or(|reply| reply.to != Asked::Register) {
        return Err(PassError::Stale);
    }
    let summary =
        "somebody else's Secret stands where the credentials should go, so the new client is removed again";
    progress.refused = Some(Error::new(Kind::Unavailable, summary));
    progress.stray = progress.in_hand.take().map(|reply| reply.client);
    Ok(())
}

fn stored_now(pass: &mut Pass, context: &Context, mut record: Record, stored: Secret) {
    record.version.clone_from(&stored.metadata.resource_version);
    let facts = &mut pass.facts;
    if record.place == Place::WithSecret {
        facts.secret = Found::Ours(Box::new(stored));
    }
    let replaced = facts.record().map(|old| old.client.client_id.clone());
    let as_before = facts.record().is_some_and(|old| old.state.applied == record.state.applied);
    let asked = facts.progress.in_hand.take().map(|reply| reply.to);
    match asked {
        Some(Asked::Register) => {
            facts.look_due = false;
            facts.progress.gone = false;
            facts.progress.seen = None;
            // What was missed is not this client.
            context.misses.forget(facts.uid());
            let message = match replaced {
                Some(old) if record.state.retiring.iter().any(|client| client.client.client_id == old) => {
                    format!(
                        "registered client {} in place of {old}, which goes on working for a while",
                        record.client.client_id
                    )
                }
                Some(old) => {
                    format!("registered client {} in place of {old}, which was gone", record.client.client_id)
                }
                None => format!("registered client {} at {}", record.client.client_id, record.state.origin),
            };
            facts.progress.note("Registered", message);
        }
        Some(Asked::Update) => {
            facts.look_due = false;
            facts.progress.seen = None;
            let id = &record.client.client_id;
            if as_before {
                let message = format!("client {id} had been changed by others; it is as declared again");
                facts.progress.note("DriftRepaired", message);
            } else {
                facts.progress.note("Updated", format!("brought client {id} to what is declared"));
            }
        }
        Some(Asked::IssueSecret) => {
            let message = format!("client {} has a new secret", record.client.client_id);
            facts.progress.note("SecretRotated", message);
        }
        Some(Asked::Recover) => {
            let message = format!("read client {} again, since its Secret was lost", record.client.client_id);
            facts.progress.note("SecretWritten", message);
        }
        Some(Asked::Look) | None => {}
    }
    facts.record = Ok(Some(record));
    if matches!(asked, Some(Asked::Register | Asked::IssueSecret)) {
        context.looks.changed(facts.uid());
        look::prove(pass);
    }
}

/// How the write of a record ended.
enum Committed {
    /// It stands as we wrote it.
    Stored(Secret),
    /// Another one stands there.
    Taken(Secret),
}

/// Writes the record until somebody says yes or no: an error in between says neither.
async fn commit(context: &Context, record: &Record) -> Result<Committed, PassError> {
    let secret = record
        .to_secret(&context.settings.operator_namespace, &context.installation)
        .map_err(|e| PassError::Internal(format!("the record is no JSON: {e}")))?;
    commit_to(&context.records(), &secret).await
}

/// The same where the user's Secret keeps the record.
async fn commit_with_secret(
    context: &Context,
    facts: &Facts,
    record: &Record,
) -> Result<Committed, PassError> {
    let wanted = secret::wanted(&facts.client, record, &facts.installation);
    let namespace = facts.client.namespace().unwrap_or_default();
    let secret = match &facts.secret {
        Found::Ours(found) => wanted.over(found),
        Found::Absent | Found::Foreign => wanted.create(&namespace, &facts.client.secret_name()),
    };
    commit_to(&Api::namespaced(context.kube.clone(), &namespace), &secret).await
}

async fn commit_to(secrets: &Api<Secret>, secret: &Secret) -> Result<Committed, PassError> {
    let started = tokio::time::Instant::now();
    let mut delay = Duration::from_millis(100);
    let mut unsure = false;
    loop {
        match try_commit(secrets, secret, unsure).await {
            // Twice at least: a process that stood still has lost the time, but not what it holds.
            Err(error) if error.is_transient() && (!unsure || started.elapsed() < COMMIT_FOR) => {
                tracing::warn!(%error, "the record is not stored yet; trying again");
                unsure = true;
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(5));
            }
            other => return other,
        }
    }
}

/// One try. What stands there decides after a conflict, and after a refusal too if an earlier try (`unsure`) may have arrived.
async fn try_commit(records: &Api<Secret>, secret: &Secret, unsure: bool) -> Result<Committed, PassError> {
    let name = secret.name_any();
    let outcome = match &secret.metadata.resource_version {
        None => call("create the record", records.create(&PostParams::default(), secret)).await,
        Some(_) => call("update the record", records.replace(&name, &PostParams::default(), secret)).await,
    };
    let conflict = match outcome {
        Ok(stored) => return Ok(Committed::Stored(stored)),
        Err(PassError::Stale) => true,
        // What is gone takes no earlier try either.
        Err(error) if unsure && error.is_definite() && !error.is_not_found() => false,
        Err(error) => return Err(error),
    };
    match call("read the record", records.get_opt(&name)).await? {
        Some(found) if record::says(&found, secret) => Ok(Committed::Stored(found)),
        Some(_) if conflict && !Rule::CreateOnce.holds() => Ok(Committed::Stored(
            call("write over the record", records.replace(&name, &PostParams::default(), secret)).await?,
        )),
        Some(found) if conflict => Ok(Committed::Taken(found)),
        _ => {
            let why = "it was refused, but an earlier try may still arrive".into();
            Err(PassError::Kubernetes { what: "store the record", code: 0, why })
        }
    }
}

async fn publish(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let facts = &mut pass.facts;
    let record = record_of(facts)?;
    let wanted = secret::wanted(&facts.client, record, &facts.installation);
    let namespace = facts.client.namespace().unwrap_or_default();
    let name = facts.client.secret_name();
    let secrets: Api<Secret> = Api::namespaced(context.kube.clone(), &namespace);
    let (written, restored) = match &facts.secret {
        Found::Ours(found) => {
            let merged = wanted.over(found);
            match call("update the Secret", secrets.replace(&name, &PostParams::default(), &merged)).await {
                Err(error) if error.is_not_found() => return Err(PassError::Stale),
                written => (written?, true),
            }
        }
        Found::Absent | Found::Foreign => {
            let new = wanted.create(&namespace, &name);
            (call("create the Secret", secrets.create(&PostParams::default(), &new)).await?, false)
        }
    };
    let before = facts.client.status.as_ref().is_some_and(|status| status.secret_ref.is_some());
    if restored || before {
        facts.progress.note("SecretWritten", format!("wrote the credentials into Secret {name} again"));
    }
    facts.secret = Found::Ours(Box::new(written));
    Ok(())
}

async fn update(
    pass: &mut Pass,
    context: &Context,
    wanted: &ClientMetadata,
    reset: &[Field],
) -> Result<(), PassError> {
    let record = record_of(&pass.facts)?;
    let mut base = record.client.clone();
    if let (Some(seen), Ok(known)) = (&pass.facts.progress.seen, &pass.facts.registry) {
        // A read may be lossy: what no read has ever shown is as the registry answered to our last write.
        base.document.retain(|member, _| !known.shown.iter().any(|field| field.wire_name() == member));
        base.document.extend(seen.document.clone());
        base.mark.clone_from(&seen.mark);
    }
    let pending = base.mark.is_some() && !keeps_mark(&pass.facts);
    bear_mark(&pass.facts, &mut base);
    let outcome = pass.driver()?.update(&base, wanted, reset).await;
    context.looks.changed(pass.facts.uid());
    let progress = &mut pass.facts.progress;
    match outcome {
        Ok(Some(client)) => return updated(pass, pending, client),
        Ok(None) => progress.gone = true,
        Err(error) if error.kind.retry() == Retry::OnChange => progress.refused = Some(error),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// A mark that stays is put back where somebody took it off.
fn bear_mark(facts: &Facts, client: &mut Client) {
    if let Some(record) = facts.record().filter(|_| keeps_mark(facts) && client.mark.is_none()) {
        client.mark = Some(ShownMark::Full {
            installation: facts.installation.clone(),
            uid: facts.uid().into(),
            nonce: record.state.nonce.clone(),
        });
    }
}

/// Whether a mark stays, beside what is declared.
fn keeps_mark(facts: &Facts) -> bool {
    facts.registry.as_ref().is_ok_and(|known| known.capabilities.mark == MarkPlace::Beside)
}

/// What an update brought. Where nothing of it has to be kept, nothing is written. To give up a pending mark is no repair.
fn updated(pass: &mut Pass, pending: bool, client: Client) -> Result<(), PassError> {
    let declared = pass.facts.declared();
    let record = record_of(&pass.facts)?;
    let kept = matches!(client.management, Management::Registry)
        && record.state.applied == declared
        && record.state.in_flight.is_none()
        && record.state.refused.is_none()
        && record.client.document == client.document
        && record.client.has_credentials_of(&client);
    if !kept {
        pass.facts.progress.in_hand = Some(InHand { client, to: Asked::Update });
        return Ok(());
    }
    if let Ok(Some(record)) = &mut pass.facts.record {
        record.client.mark.clone_from(&client.mark);
    }
    if !pending {
        let message =
            format!("client {} had been changed by others; it is as declared again", client.client_id);
        pass.facts.progress.note("DriftRepaired", message);
    }
    pass.facts.look_due = false;
    pass.facts.progress.seen = Some(client);
    Ok(())
}

/// Removes the record's client and those that retire; without a record, the one that status names.
async fn deregister(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let (id, outcome) = if let Some(record) = pass.facts.record() {
        (record.client.client_id.clone(), deregister_client(context, record).await)
    } else {
        let named = pass.facts.client.status.as_ref().and_then(|status| status.client_id.clone());
        let client = Client::named(named.unwrap_or_default(), Management::Registry);
        (client.client_id.clone(), pass.driver()?.deregister(&client).await)
    };
    let progress = &mut pass.facts.progress;
    match outcome {
        Ok(()) => {
            progress.deregistered = true;
            progress.note("Deregistered", format!("the registry no longer has client {id}"));
        }
        Err(error) => progress.deregister_error = Some(error),
    }
    Ok(())
}

/// Removes a record's client from the registry that the record came from, wherever the registry object points today.
pub async fn deregister_client(context: &Context, record: &Record) -> Result<(), Error> {
    let driver = gather::driver_from_record(context, record, &record.owner.namespace)?;
    deregister_all(driver.as_ref(), &record.client, &record.state.retiring).await
}

async fn deregister_all(driver: &dyn Registry, client: &Client, retiring: &[Retiring]) -> Result<(), Error> {
    for old in retiring {
        driver.deregister(&old.client.client()).await?;
    }
    driver.deregister(client).await
}

/// Removes whatever else bears the object's mark.
async fn deregister_marked(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    match look::marked(pass, context).await {
        Ok(clients) => {
            for client in clients {
                pass.driver()?.deregister(&client).await?;
            }
            pass.facts.progress.cleared = true;
        }
        Err(error) => pass.facts.progress.deregister_error = Some(error),
    }
    Ok(())
}

async fn deregister_stray(pass: &mut Pass, client: &Client) -> Result<(), PassError> {
    let outcome = pass.driver()?.deregister(client).await;
    pass.facts.progress.stray = None;
    if let Err(error) = outcome {
        // The intent stays as it is: nobody knows, and it will be counted as a suspect.
        pass.facts.progress.refused = None;
        let message =
            format!("client {} was made in vain and cannot be removed: {}", client.client_id, error.summary);
        pass.facts.progress.warn("SuspectedOrphan", message);
        return Err(error.into());
    }
    Ok(())
}

async fn release(pass: &mut Pass, context: &Context, why: Released) -> Result<(), PassError> {
    let record = record_of(&pass.facts)?;
    let mut record = record.clone();
    record.released = Some(why);
    if record.place == Place::WithSecret {
        // The ledger: the user's Secret tells nobody here that the client is spoken for.
        (record.place, record.version) = (Place::Apart, None);
    }
    let id = record.client.client_id.clone();
    let Committed::Stored(stored) = commit(context, &record).await? else { return Err(PassError::Stale) };
    record.version = stored.metadata.resource_version;
    let kept = record::name(&record.owner.uid);
    match why {
        Released::Retained => {
            pass.facts
                .progress
                .note("Retained", format!("client {id} stays at the registry; its record is {kept}"));
        }
        Released::Abandoned => {
            context.metrics.abandoned.inc();
            let error =
                pass.facts.progress.deregister_error.as_ref().map_or("as asked", |error| &error.summary);
            let message =
                format!("client {id} may still be at the registry ({error}); its record is kept as {kept}");
            pass.facts.progress.warn("Abandoned", message);
        }
    }
    pass.facts.record = Ok(Some(record));
    Ok(())
}

async fn delete_record(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let record = record_of(&pass.facts)?;
    remove_record(context, record).await?;
    say_what_may_be_left(pass, context);
    pass.facts.record = Ok(None);
    Ok(())
}

/// Deletes a record at the version that was read.
pub async fn remove_record(context: &Context, record: &Record) -> Result<(), PassError> {
    let records = context.records();
    let preconditions = Preconditions { resource_version: record.version.clone(), uid: None };
    let params = DeleteParams::default().preconditions(preconditions);
    match call("delete the record", records.delete(&record::name(&record.owner.uid), &params)).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
