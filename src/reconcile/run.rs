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
    next::Effect,
    record::{self, Record, Released},
    secret::{self, Found},
};
use crate::{
    api::{FINALIZER, OAuthClient, annotations, conditions},
    registry::{self, Client, ClientMetadata, Error, Field, Kind, Registry, Retry, Wanted},
};

/// The commit of a registration is tried for this long: what it would lose, nobody else has.
const COMMIT_FOR: Duration = Duration::from_secs(45);

/// Runs one effect.
pub async fn run(effect: Effect, pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    match effect {
        Effect::Prepare => prepare(pass, context).await,
        Effect::Announce(intent) => announce(pass, context, &intent).await,
        Effect::Register(wanted) => register(pass, &wanted).await,
        Effect::NoteRefusal(intent) => note_refusal(pass, context, &intent).await,
        Effect::Acknowledge(intent) => annotate(pass, context, &intent).await,
        Effect::AddFinalizer => add_finalizer(pass, context).await,
        Effect::Store(record) => store(pass, context, *record).await,
        Effect::Publish => publish(pass, context).await,
        Effect::Look => look(pass, context).await,
        Effect::Update { wanted, reset } => update(pass, context, &wanted, &reset).await,
        Effect::Deregister => deregister(pass, context).await,
        Effect::DeregisterStray(client) => deregister_stray(pass, &client).await,
        Effect::Release(why) => release(pass, context, why).await,
        Effect::DeleteRecord => delete_record(pass, context).await,
        Effect::RemoveFinalizer => remove_finalizer(pass, context).await,
    }
}

fn driver(pass: &Pass) -> Result<&dyn Registry, PassError> {
    pass.driver
        .as_deref()
        .ok_or_else(|| PassError::Internal("a rule asked for a registry that is not there".into()))
}

fn record_of(facts: &Facts) -> Result<&Record, PassError> {
    facts.record().ok_or_else(|| PassError::Internal("a rule asked for a record that is not there".into()))
}

async fn prepare(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    if pass.facts.record().is_some() && !gather::may_register_again(context, pass).await? {
        return Ok(());
    }
    driver(pass)?.prepare().await?;
    pass.facts.progress.prepared = true;
    Ok(())
}

/// Finalizer and intent, in one patch that fails if our view of the object is stale.
async fn announce(pass: &mut Pass, context: &Context, intent: &Intent) -> Result<(), PassError> {
    annotate(pass, context, intent).await?;
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
    let lost = status
        .and_then(|status| conditions::find(&status.conditions, conditions::READY))
        .is_some_and(|ready| ready.reason == "RecordLost" && !facts.progress.deregistered);
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
    metadata["resourceVersion"] = json!(pass.facts.client.metadata.resource_version);
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
    let outcome = driver(pass)?.register(wanted).await;
    let progress = &mut pass.facts.progress;
    match outcome {
        Ok(client) => progress.in_hand = Some(InHand { client, to: Asked::Register }),
        Err(error) if error.kind == Kind::Ambiguous => {
            progress.announced = false;
            progress.warn("OutcomeUnknown", error.summary);
        }
        Err(error) => progress.refused = Some(error),
    }
    Ok(())
}

/// Creates the record, or updates it under the version that was read.
async fn store(pass: &mut Pass, context: &Context, record: Record) -> Result<(), PassError> {
    let made = pass.facts.progress.in_hand.as_ref().is_some_and(|reply| reply.to == Asked::Register);
    match commit(context, &record).await {
        Ok(Committed::Stored(stored)) => {
            stored_now(pass, context, record, &stored);
            Ok(())
        }
        Ok(Committed::Taken(theirs)) => {
            let theirs = Record::read(&theirs);
            if pass.facts.lose_the_race(theirs) { Ok(()) } else { Err(PassError::Stale) }
        }
        Err(error) if made && error.is_definite() => {
            let summary = format!("the record cannot be stored, so the new client is removed again: {error}");
            pass.facts.progress.refused = Some(Error::new(Kind::Unavailable, summary));
            pass.facts.progress.stray = pass.facts.progress.in_hand.take().map(|reply| reply.client);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn stored_now(pass: &mut Pass, context: &Context, mut record: Record, stored: &Secret) {
    record.version.clone_from(&stored.metadata.resource_version);
    let facts = &mut pass.facts;
    let replaced = facts.record().map(|old| old.client.client_id.clone());
    let as_before = facts.record().is_some_and(|old| old.state.applied == record.state.applied);
    match facts.progress.in_hand.take().map(|reply| reply.to) {
        Some(Asked::Register) => {
            facts.look_due = false;
            facts.progress.gone = false;
            facts.progress.seen = None;
            context.looks.looked(facts.uid());
            let message = match replaced {
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
        Some(Asked::Look) | None => {}
    }
    facts.record = Ok(Some(record));
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
    let records = context.records();
    let started = tokio::time::Instant::now();
    let mut delay = Duration::from_millis(100);
    let mut unsure = false;
    loop {
        match try_commit(&records, &secret, unsure).await {
            Err(error) if error.is_transient() && started.elapsed() < COMMIT_FOR => {
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
        Err(error) if unsure && error.is_definite() => false,
        Err(error) => return Err(error),
    };
    match call("read the record", records.get_opt(&name)).await? {
        Some(found) if record::says(&found, secret) => Ok(Committed::Stored(found)),
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

async fn look(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let known = record_of(&pass.facts)?.client.clone();
    let seen = match driver(pass)?.observe(&known).await {
        // It is still good for everything else. Whether it is so for its other clients, and for how long, nobody has said.
        Err(error) if error.kind == Kind::Unsupported => {
            tracing::debug!(%error, "the registry does not let this client be looked at");
            context.looks.looked(pass.facts.uid());
            pass.facts.look_due = false;
            return Ok(());
        }
        seen => seen?,
    };
    context.looks.looked(pass.facts.uid());
    learn_shown(pass);
    let put_right = |client: &Client| {
        pass.facts.record().is_some_and(|record| !pass.facts.put_right(record, &client.document).is_empty())
    };
    let to_keep =
        seen.as_ref().filter(|client| !same_credentials(&known, client) || put_right(client)).cloned();
    let progress = &mut pass.facts.progress;
    progress.gone = seen.is_none();
    if let Some(client) = to_keep {
        progress.in_hand = Some(InHand { client, to: Asked::Look });
    }
    progress.seen = seen;
    Ok(())
}

fn learn_shown(pass: &mut Pass) {
    if let (Some(session), Ok(known)) = (&pass.session, &mut pass.facts.registry) {
        known.shown.clone_from(&session.learned().shown);
    }
}

/// Whether a reply brought nothing that the record must keep.
fn same_credentials(known: &Client, seen: &Client) -> bool {
    use registry::Management::{None as Unmanaged, Token};
    use secrecy::ExposeSecret as _;
    let secret = |client: &Client| client.client_secret.as_ref().map(|s| s.expose_secret().to_owned());
    let token = |client: &Client| match &client.management {
        Token { token, .. } => Some(token.expose_secret().to_owned()),
        Unmanaged(_) => None,
    };
    secret(known) == secret(seen)
        && token(known) == token(seen)
        && known.client_secret_expires_at == seen.client_secret_expires_at
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
    }
    let outcome = driver(pass)?.update(&base, wanted, reset).await;
    context.looks.looked(pass.facts.uid());
    let progress = &mut pass.facts.progress;
    match outcome {
        Ok(Some(client)) => progress.in_hand = Some(InHand { client, to: Asked::Update }),
        Ok(None) => progress.gone = true,
        Err(error) if error.kind.retry() == Retry::OnChange => progress.refused = Some(error),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn deregister(pass: &mut Pass, context: &Context) -> Result<(), PassError> {
    let record = record_of(&pass.facts)?;
    let outcome = deregister_client(context, record).await;
    let id = record.client.client_id.clone();
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
    gather::driver_from_record(context, record, &record.owner.namespace)?.deregister(&record.client).await
}

async fn deregister_stray(pass: &mut Pass, client: &Client) -> Result<(), PassError> {
    let outcome = driver(pass)?.deregister(client).await;
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
