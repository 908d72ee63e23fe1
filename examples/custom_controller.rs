//! A controller of one's own: keeps a ConfigMap beside every Deployment that says how the Deployment is.

use std::{collections::BTreeSet, error::Error};

use orchestrator_core::controller::{Controller, Decision};
use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{
    ConfigMap, Deployment, Key, Kind, Object, ObjectMeta, OwnerReference, StringMap, Timestamp,
};
use orchestrator_core::world::{Change, Proposal, World};

/// Keeps the ConfigMap `<deployment>-summary`. The garbage collector removes it with its Deployment.
#[derive(Clone, Copy, Debug)]
pub struct Summaries;

impl Controller for Summaries {
    fn name(&self) -> &'static str {
        "summaries"
    }

    /// A changed Deployment is looked at, and so is one whose ConfigMap somebody changed or deleted.
    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        match change.key.kind {
            Kind::Deployment => {
                keys.insert(change.key.clone());
            }
            Kind::ConfigMap => {
                let owner = change.latest().meta().controller();
                if let Some(owner) = owner.filter(|owner| owner.kind == Kind::Deployment.name()) {
                    let namespace = &change.key.namespace;
                    keys.insert(Key::new(Kind::Deployment, namespace, &owner.name));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&self, key: &Key, world: &World, _now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        let Some(deployment) = world.at::<Deployment>(key) else { return decision };
        let Some(owner) = world.get(key) else { return decision };
        if deployment.metadata.is_deleting() {
            return decision;
        }
        let wanted = summary(deployment);
        // The name follows from the Deployment's, so that a repeated create is refused, never doubled.
        let name = &wanted.metadata.name;
        match world.get(&Key::new(Kind::ConfigMap, &key.namespace, name)) {
            None => decision.propose(Proposal::create(wanted).guarded_by_main(owner)),
            Some(found) => {
                let Object::ConfigMap(config_map) = &found.object else { return decision };
                let manager = config_map.metadata.controller().map(|owner| owner.uid);
                let ours = manager == Some(deployment.metadata.uid);
                if ours && !config_map.immutable && config_map.data != wanted.data {
                    let mut next = ConfigMap::clone(config_map);
                    next.data = wanted.data;
                    decision.propose(Proposal::put_main(found, next));
                }
            }
        }
        decision
    }
}

fn summary(deployment: &Deployment) -> ConfigMap {
    let meta = &deployment.metadata;
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let data = StringMap::from([
        ("available".to_owned(), deployment.status.available_replicas.to_string()),
        ("wanted".to_owned(), wanted.to_string()),
    ]);
    let owner_references = vec![OwnerReference::controller_of(Kind::Deployment, meta)];
    let name = format!("{}-summary", meta.name);
    let metadata = ObjectMeta { owner_references, ..ObjectMeta::named(&meta.namespace, &name) };
    ConfigMap { data, metadata, ..ConfigMap::default() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::builder().store(MemStore::new()).controller(Summaries).start().await?;
    cluster.apply(Deployment::new("web", "nginx:1.27").replicas(3)).await?;
    let data = |world: &World| {
        world.find::<ConfigMap>("default", "web-summary").map(|found| found.data.clone())
    };
    let says = |world: &World, wanted: &str| {
        data(world).is_some_and(|data| data.get("wanted").is_some_and(|found| found == wanted))
    };
    let world = cluster.wait_for(|world| says(world, "3")).await?;
    println!("made: {:?}", data(&world).unwrap_or_default());

    cluster.scale(&Key::new(Kind::Deployment, "default", "web"), 5).await?;
    let world = cluster.wait_for(|world| says(world, "5")).await?;
    println!("scaled: {:?}", data(&world).unwrap_or_default());

    cluster.delete(&Key::new(Kind::ConfigMap, "default", "web-summary")).await?;
    cluster.wait_for(|world| says(world, "5")).await?;
    println!("deleted by hand, and made again");

    cluster.delete(&Key::new(Kind::Deployment, "default", "web")).await?;
    cluster.wait_for(|world| data(world).is_none()).await?;
    println!("gone with its deployment");
    cluster.shutdown(false).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Summaries;

    orchestrator_core::controller_conformance!(|| Box::new(Summaries));
}
