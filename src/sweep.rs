//! Looks after records whose object is gone without them: a finalizer that was removed by hand, a restored backup.
//!
//! Such a client is deregistered, then its record is deleted. Records that were released stay: they are the ledger of what
//! was retained or abandoned.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};

use crate::{
    api::{DeletionPolicy, OAuthClient, annotations},
    reconcile::{
        Context, PassError, call, caught, following,
        protocol::Rule,
        record::{self, Owner, Record},
        run::{deregister_client, remove_record},
    },
};

const INTERVAL: Duration = Duration::from_mins(5);
const PAGE: u32 = 100;

/// Sweeps now and then. `namespaces` are those that are served; none means all.
pub async fn run(context: Arc<Context>, namespaces: Vec<String>) {
    loop {
        if let Err(error) = caught(sweep(&context, &namespaces)).await {
            tracing::warn!(%error, "the records could not be swept; it is tried again");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn sweep(context: &Context, namespaces: &[String]) -> Result<(), PassError> {
    let records = context.records();
    let mut page = ListParams::default().labels(record::LABEL).limit(PAGE);
    loop {
        let found = call("list the records", records.list(&page)).await?;
        for secret in found.items.iter().filter(|secret| is_ours(context, secret)) {
            let Ok(record) = Record::read(secret) else { continue };
            let served = namespaces.is_empty() || namespaces.contains(&record.owner.namespace);
            let retained =
                record.released.is_some() || record.state.deletion_policy == DeletionPolicy::Retain;
            if served
                && !retained
                && let Err(error) = settle(context, &records, &record).await
            {
                tracing::warn!(%error, record = record::name(&record.owner.uid), "the record could not be swept");
            }
        }
        match following(page, &found.metadata) {
            Some(next) => page = next,
            None => return Ok(()),
        }
    }
}

/// A record that was copied from another cluster speaks of clients that live there.
fn is_ours(context: &Context, secret: &Secret) -> bool {
    secret
        .metadata
        .annotations
        .iter()
        .flatten()
        .any(|(name, value)| name == annotations::INSTALLATION && *value == context.installation)
}

async fn settle(context: &Context, records: &Api<Secret>, record: &Record) -> Result<(), PassError> {
    if lives(context, &record.owner).await? {
        return Ok(());
    }
    // The list is old by now; what released the record did so before it let the object go.
    let now = call("read the record", records.get_opt(&record::name(&record.owner.uid))).await?;
    if now.and_then(|now| now.metadata.resource_version) != record.version {
        return Ok(());
    }
    let (owner, id) = (&record.owner, &record.client.client_id);
    if !Rule::Outlive.holds() {
        return remove_record(context, record).await;
    }
    if let Err(error) = deregister_client(context, record).await {
        tracing::warn!(namespace = owner.namespace, name = owner.name, client_id = id, %error, "the object is gone, its client is not");
        return Ok(());
    }
    tracing::info!(
        namespace = owner.namespace,
        name = owner.name,
        client_id = id,
        "deregistered a client whose object was gone"
    );
    remove_record(context, record).await
}

/// A live read: only the API server's own word counts before something is destroyed. The list tells an object that is gone from
/// a kind that is.
async fn lives(context: &Context, owner: &Owner) -> Result<bool, PassError> {
    let clients: Api<OAuthClient> = Api::namespaced(context.kube.clone(), &owner.namespace);
    call("list OAuthClients", clients.list_metadata(&ListParams::default().limit(1))).await?;
    let found = call("read the OAuthClient", clients.get_metadata_opt(&owner.name)).await?;
    Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(owner.uid.as_str())))
}
