//! From what a pass found to the status of the object. Pure; nothing here changes when nothing happened.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    facts::{Facts, Known, Why, requested, resume_command, suspects},
    next::Step,
    record::Record,
    rotation::strategy,
    secret::Found,
};
use crate::{
    api::{
        Condition, ConditionStatus, OAuthClientStatus, RetiringClient, RotationStatus, SecretRef,
        conditions::{self, CREDENTIALS_STORED, READY, RECONCILING, REGISTERED, STALLED, SUSPENDED},
    },
    registry::{Kind, Retry},
};

/// Messages longer than this are cut.
const MESSAGE: usize = 1024;

/// The reasons that speak of the client at the registry, not of the way there.
const OF_THE_CLIENT: [&str; 12] = [
    "ClientDisabled",
    "ClientGone",
    "ClientMissing",
    "ClientSecretExpired",
    "ManagementLost",
    "NoSecretIssued",
    "NotAsDeclared",
    "NotManageable",
    "RecordLost",
    "RegistryChanged",
    "Rejected",
    "ReplacementNeeded",
];

/// The status after a pass that ended with `end` (never [`Step::Do`]).
pub fn status(facts: &Facts, end: &Step) -> OAuthClientStatus {
    let old = facts.client.status.clone().unwrap_or_default();
    let mut status = OAuthClientStatus {
        observed_generation: facts.client.metadata.generation.unwrap_or_default(),
        last_handled_reconcile_at: requested(&facts.client).or(old.last_handled_reconcile_at.clone()),
        conditions: old.conditions.clone(),
        ..old.clone()
    };
    if let Some(record) = facts.record() {
        describe(&mut status, record);
        let known = facts.registry.as_ref().ok();
        status.rotation = rotation(facts, record, known).or(old.rotation.clone().filter(|_| known.is_none()));
    }
    if matches!(facts.secret, Found::Ours(_)) {
        status.secret_ref = Some(SecretRef { name: facts.client.secret_name() });
    }
    judge(facts, end, &old, &mut status.conditions);
    status
}

fn describe(status: &mut OAuthClientStatus, record: &Record) {
    status.client_id = Some(record.client.client_id.clone());
    status.registration_id.clone_from(&record.client.registration_id);
    status.account_id.clone_from(&record.client.account_id);
    status.secret_hint.clone_from(&record.client.secret_hint);
    status.registered_at = record.client.registered_at.map(|at| Time(seconds(at)));
    status.client_secret_expires_at = record.client.client_secret_expires_at.map(|end| Time(seconds(end)));
}

/// What has happened and will happen to the secret; absent while nothing is declared and nothing happened.
fn rotation(facts: &Facts, record: &Record, known: Option<&Known>) -> Option<RotationStatus> {
    let state = &record.state;
    let retiring = state.retiring.iter().map(|old| RetiringClient {
        client_id: old.client.client_id.clone(),
        until: Time(seconds(old.until)),
    });
    let told = RotationStatus {
        strategy: None,
        last: state.schedule.last.map(|last| Time(seconds(last))),
        next: state.schedule.next.map(|next| Time(seconds(next))),
        last_handled: state.schedule.handled.clone(),
        previous_ends: state.previous.as_ref().map(|previous| Time(seconds(previous.until))),
        retiring: retiring.collect(),
    };
    (told != RotationStatus::default() || facts.client.spec.rotation.is_some()).then(|| RotationStatus {
        strategy: known.map(|known| strategy(known.capabilities.rotation).to_owned()),
        ..told
    })
}

/// As exact as Kubernetes writes times: a finer one would differ from what was written, for ever.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn judge(facts: &Facts, end: &Step, old: &OAuthClientStatus, conditions: &mut Vec<Condition>) {
    let generation = facts.client.metadata.generation;
    let mut put = |type_: &str, status: ConditionStatus, why: &Why| {
        conditions::set(conditions, condition(type_, status, why, generation, facts.now));
    };
    if facts.client.spec.suspend && !facts.deleting() {
        let why = Why::new("Suspended", "spec.suspend is set; nothing is done until it is taken away");
        put(SUSPENDED, ConditionStatus::True, &why);
        if conditions::find(&old.conditions, READY).is_none() {
            put(READY, ConditionStatus::Unknown, &why);
        }
        conditions::set_kstatus(conditions, None);
        return;
    }
    if !facts.progress.gone && keeps_its_word(end, old, generation) {
        conditions::remove(conditions, SUSPENDED);
        return;
    }
    let (ready, why) = ready(facts, end);
    put(READY, ready, &why);
    let (registered, of_registered) = registered(facts, old, ready, &why);
    put(REGISTERED, registered, &of_registered);
    let (stored, of_stored) = stored(facts, &why);
    put(CREDENTIALS_STORED, stored, &of_stored);
    conditions::remove(conditions, SUSPENDED);
    let so = kstatus(end);
    conditions::set_kstatus(
        conditions,
        so.map(|type_| condition(type_, ConditionStatus::True, &why, generation, facts.now)),
    );
}

/// A client that was ready for this generation stays so while the registry is merely slow to answer: its credentials work.
fn keeps_its_word(end: &Step, old: &OAuthClientStatus, generation: Option<i64>) -> bool {
    let passing =
        matches!(end, Step::Fail(error) if matches!(error.kind, Kind::Unavailable | Kind::Throttled(_)));
    let was_ready =
        conditions::find(&old.conditions, READY).is_some_and(|c| c.status == ConditionStatus::True);
    passing && was_ready && Some(old.observed_generation) == generation
}

fn ready(facts: &Facts, end: &Step) -> (ConditionStatus, Why) {
    match end {
        Step::Settled => {
            let mut message = "The client is registered and its credentials are stored".to_owned();
            if let Some(fields) = not_cleared(facts) {
                message = format!("{message}; the registry would not clear {fields}");
            }
            if let (Some(suspects), Some(intent)) =
                (suspects(&facts.client, facts.intent.as_ref()), &facts.intent)
            {
                let then = resume_command(&facts.client, &intent.nonce);
                message = format!("{message}; {suspects}: look after them there, then: {then}");
            }
            (ConditionStatus::True, Why::new("Ready", message))
        }
        Step::Wait(why, _) | Step::Refuse(why) if why.reason == "OutcomeUnknown" => {
            (ConditionStatus::Unknown, why.clone())
        }
        Step::Wait(why, _) | Step::Refuse(why) => (ConditionStatus::False, why.clone()),
        Step::Fail(error) => (ConditionStatus::False, Why::from(error)),
        Step::Do(effect) => {
            let message = format!("the operator did not come to an end ({effect:?}); please report this");
            (ConditionStatus::Unknown, Why::new("InternalError", message))
        }
    }
}

fn not_cleared(facts: &Facts) -> Option<String> {
    let fields = &facts.record()?.state.not_cleared;
    let names: Vec<&str> = fields.iter().map(|field| field.spec_name()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn registered(
    facts: &Facts,
    old: &OAuthClientStatus,
    ready: ConditionStatus,
    why: &Why,
) -> (ConditionStatus, Why) {
    let Some(record) = facts.record() else {
        let unknown = ready == ConditionStatus::Unknown;
        return (if unknown { ConditionStatus::Unknown } else { ConditionStatus::False }, why.clone());
    };
    if OF_THE_CLIENT.contains(&why.reason.as_str()) || ready == ConditionStatus::Unknown {
        return (if ready == ConditionStatus::Unknown { ready } else { ConditionStatus::False }, why.clone());
    }
    match conditions::find(&old.conditions, REGISTERED) {
        // What was last heard of the client is still so.
        Some(before)
            if ready != ConditionStatus::True
                && before.status != ConditionStatus::True
                && OF_THE_CLIENT.contains(&before.reason.as_str()) =>
        {
            (before.status, Why::new(&before.reason, &before.message))
        }
        _ => {
            let message = format!("The client is registered at {}", record.state.origin);
            (ConditionStatus::True, Why::new("Registered", message))
        }
    }
}

fn stored(facts: &Facts, why: &Why) -> (ConditionStatus, Why) {
    let Some(record) = facts.record() else {
        return (ConditionStatus::False, Why::new("NotRegistered", "There are no credentials yet"));
    };
    match &facts.secret {
        Found::Ours(secret)
            if super::secret::wanted(&facts.client, record, &facts.installation).is(secret) =>
        {
            let message = format!("Secret {} holds the credentials", facts.client.secret_name());
            (ConditionStatus::True, Why::new("Stored", message))
        }
        _ => (ConditionStatus::False, why.clone()),
    }
}

/// kstatus: `Reconciling` while the operator goes on by itself, `Stalled` at a dead end.
fn kstatus(end: &Step) -> Option<&'static str> {
    match end {
        Step::Settled => None,
        Step::Refuse(_) => Some(STALLED),
        Step::Fail(error) if error.kind.retry() == Retry::OnChange => Some(STALLED),
        Step::Wait(..) | Step::Do(_) | Step::Fail(_) => Some(RECONCILING),
    }
}

/// A condition as it is written: its time as exact as Kubernetes keeps it, its text bounded.
pub fn condition(
    type_: &str,
    status: ConditionStatus,
    why: &Why,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        type_: type_.into(),
        status,
        observed_generation: generation,
        last_transition_time: Time(seconds(now)),
        reason: why.reason.clone(),
        message: why.message.chars().take(MESSAGE).collect(),
    }
}

#[cfg(test)]
mod tests;
