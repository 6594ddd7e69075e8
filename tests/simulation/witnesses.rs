//! For each rule a run that goes wrong without it. Those of the protocol are the counterexamples of its model, in the words of the
//! simulator.

/// A run that a rule is there for.
pub struct Witness<'a> {
    pub rule: &'a str,
    /// `class/story`.
    pub story: &'a str,
    /// What goes wrong in it.
    pub plan: &'a str,
}

const fn witness(rule: &'static str, story: &'static str, plan: &'static str) -> Witness<'static> {
    Witness { rule, story, plan }
}

/// A run that once went wrong.
pub struct Found {
    /// `class/story`.
    pub story: &'static str,
    pub plan: &'static str,
}

/// What the simulator found in the operator. It is mended, and stays so.
pub const FOUND: &[Found] = &[
    // The account was never proven again: a client without a status told nobody of it.
    Found { story: "teable/create", plan: "crash after at create record" },
    // One refusal used up all the time that a deletion has.
    Found { story: "cal-com/namespace ends", plan: "403 at DELETE /v2/oauth-clients/{clientId}" },
    // One 403, which may be a firewall's, was taken for the server's last word.
    Found { story: "rfc7592/update", plan: "403 at PUT /register/{client_id}" },
    // The record in whose place the new client's should go was gone, and that was taken for a moment's trouble.
    Found {
        story: "rfc7592/client removed by others",
        plan: "frozen at replace record; the client is deleted at patch oauthclients #2",
    },
    // A secret was stored under an attempt that others had followed: those of the others worked for ever.
    Found {
        story: "teable/rotate",
        plan: "frozen at replace record; lost at POST /api/oauth/client/{clientId}/secret #2; \
               reply lost at POST /api/oauth/client/{clientId}/secret #3",
    },
    // Who had lost the race for the record still took its client for gone, which was the one before it.
    Found {
        story: "cal-com/two operators: client removed by others",
        plan: "503 at GET /v2/oauth-clients/{clientId} #2; lost at get Secret #4; lost at replace Secret; \
               crash before at replace oauthclients/status #2",
    },
    // Who came too late gave the client up without having asked for it once.
    Found { story: "cal-com/namespace ends", plan: "crash before at get record; lost at list oauthclients" },
    // A client was replaced while another operator got its next token, which was then forgotten: nobody could remove it any more.
    Found {
        story: "rfc7592-rotating/two operators: create",
        plan: "409 at create Secret; 500 at replace record",
    },
    // The same, and the object had changed meanwhile.
    Found {
        story: "rfc7592-rotating/two operators: create",
        plan: "reply cut at GET /register/{client_id}; 500 at replace record #2",
    },
];

/// All of them.
pub const WITNESSES: &[Witness<'static>] = &[
    // Nobody knows of a client whose operator has just died.
    witness("WriteAhead", "teable/create", "crash after at POST /api/oauth/client"),
    witness("Nonce", "teable/create", ""),
    witness("Guard", "cal-com/two operators: client removed by others", ""),
    // The record that was gathered is another operator's, of later than the object.
    witness(
        "Collect",
        "rfc7592-rotating/two operators: client removed by others",
        "the client is edited at POST /register",
    ),
    witness("Commit", "rfc7592/create", ""),
    // Another operator has registered a client of its own meanwhile.
    witness("CreateOnce", "rfc7592/create", "frozen at create record"),
    witness("Loser", "rfc7592/create", "frozen at create record"),
    witness("Own", "teable/create", "reply cut at POST /api/oauth/client/{clientId}/secret"),
    // The mark is off, and nothing else says whose the client is.
    witness("IdFirst", "cal-com/create", "crash after at PATCH /v2/oauth-clients/{clientId}"),
    witness("Fence", "teable/rotate", "reply cut at patch oauthclients"),
    witness("Sweep", "cal-com/rotate", "crash after at create record"),
    // The request that had been given up ends the secret that was issued instead.
    witness("Settle", "meteroid/rotate", "late at POST /api/v1/oauth-apps/{id}/rotate"),
    witness("Verify", "teable/secret ended by others", ""),
    witness("Trust", "teable/forged intent of a new client", ""),
    witness("Outlive", "rfc7592/taken away and made again", ""),
    witness("DeletionOrder", "cal-com/delete", ""),
    witness("ProvenAbsence", "cal-com/registry wiped", ""),
    witness("MassAbsence", "cal-com/registry wiped", ""),
    // It reads, the registry changes the secret for that, and it dies; who works has no cause to read again.
    witness(
        "Turn",
        "rfc7592-rotating/two replicas: create",
        "frozen at create Secret; crash before at replace record #2",
    ),
    // The rules over the facts.
    witness("credentials_in_hand", "rfc7592/create", ""),
    witness("stray_in_hand", "rfc7592/create", "frozen at create record"),
    witness("refusal_in_hand", "teable/create", "refused at POST /api/oauth/client/{clientId}/secret"),
    witness("being_deleted", "rfc7592/delete", ""),
    witness("suspended", "rfc7592/suspended and edited", ""),
    witness("finalizer_is_missing", "rfc7592/finalizer cut off", ""),
    witness("record_unreadable", "rfc7592/record broken", ""),
    witness("secret_is_foreign", "rfc7592/Secret of somebody else", ""),
    witness("secret_is_not_as_derived", "rfc7592/create", ""),
    witness("registry_not_usable", "rfc7592/registry object removed", ""),
    witness("not_supported", "rfc7592/field that the registry has not", ""),
    witness("not_allowed", "rfc7592/guardrail without the client", ""),
    witness("name_is_a_mark", "cal-com/name like a mark", ""),
    witness("registry_changed", "rfc7592/registry switched", ""),
    witness("record_is_lost", "cal-com/Secret deleted", ""),
    witness("secret_to_issue", "teable/create", ""),
    witness("not_registered", "rfc7592/create", ""),
    witness("time_to_look", "rfc7592/client removed by others", ""),
    witness("client_is_missing", "cal-com/registry wiped", ""),
    witness("client_is_gone", "rfc7592/client removed by others", ""),
    witness("secret_is_dead", "teable/secret ended by others", ""),
    witness("old_ones_end", "cal-com/rotate", ""),
    witness("differs", "rfc7592/update", ""),
    witness("rotation_is_due", "teable/rotate", ""),
];

/// Rules without which nothing is lost, but something is said too late, or never. The tables of `src/reconcile/next/tests/rules.rs` hold
/// them.
pub const ONLY_SAY: &[&str] = &[
    "record_is_behind",
    "schedule_is_behind",
    "account_not_proven",
    "outcome_unknown",
    "suspects_looked_after",
    "not_as_declared",
    "client_is_disabled",
    "no_secret_or_expired",
];
