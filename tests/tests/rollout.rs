//! A new template rolls within its bounds (S28), seen from every single commit.

use std::sync::Arc;

use orchestrator_core::driver::{Changes, Cluster};
use orchestrator_core::model::{Key, Kind, Object, Pod, Resource, Revision};
use orchestrator_core::world::World;
use orchestrator_tests::rig::{Rig, until};
use orchestrator_tests::workload::{container, probe, with_container};

super::on_every_runtime! { a_new_template_rolls_within_its_bounds }

const REPLICAS: i32 = 4;

/// Applies every change to what was there before, and checks the bounds after each commit.
struct Bounds {
    pods: Vec<Arc<Pod>>,
    changes: Changes,
    commit: Revision,
    commits: usize,
}

impl Bounds {
    fn of(cluster: &Cluster) -> Self {
        let world = cluster.world();
        let pods = world.all::<Pod>(Some("default")).cloned().collect();
        let commit = world.revision();
        Self { pods, changes: cluster.changes(commit), commit, commits: 0 }
    }

    /// Checks every commit up to a world.
    fn check_until(&mut self, world: &World) {
        while let Some(change) = self.changes.try_next().expect("the changes are remembered") {
            if change.revision != self.commit {
                self.check();
                self.commit = change.revision;
                self.commits += 1;
            }
            if change.key.kind != Kind::Pod {
                continue;
            }
            self.pods.retain(|pod| pod.key() != change.key);
            if let Some(Object::Pod(pod)) = &change.after {
                self.pods.push(Arc::clone(pod));
            }
        }
        self.check();
        assert!(self.commit >= world.revision(), "every commit up to the world was seen");
    }

    fn check(&self) {
        let active = self.pods.iter().filter(|pod| pod.is_active());
        let ready = active.clone().filter(|pod| pod.is_ready()).count();
        let active = active.count();
        // With one more and one less than wanted.
        let (least, most) = (REPLICAS as usize - 1, REPLICAS as usize + 1);
        assert!(active <= most, "{active} pods at revision {}: {:#?}", self.commit, self.pods);
        assert!(ready >= least, "{ready} ready at revision {}: {:#?}", self.commit, self.pods);
    }
}

fn versions(world: &World) -> Vec<String> {
    let pods = world.all::<Pod>(Some("default"));
    pods.filter_map(|pod| pod.spec.containers.first()?.env.first().map(|it| it.value.clone()))
        .collect()
}

async fn a_new_template_rolls_within_its_bounds(rig: Arc<Rig>) {
    let cluster = rig.start("a").await;
    let web = |version: &str| {
        let mut container = container(version);
        container.readiness_probe = Some(probe("true"));
        with_container("web", REPLICAS, container)
    };
    let rolled = |world: &World, version: &str| {
        let versions = versions(world);
        world.deployment("web").is_available()
            && versions.len() == REPLICAS as usize
            && versions.iter().all(|it| it == version)
    };
    cluster.apply(web("1")).await.expect("applied");
    until(&cluster, "version 1 is there", |world| rolled(world, "1")).await;
    for version in ["2", "3", "2"] {
        let mut bounds = Bounds::of(&cluster);
        bounds.check();
        cluster.apply(web(version)).await.expect("applied");
        let world = until(&cluster, "the version is there", |world| rolled(world, version)).await;
        bounds.check_until(&world);
        assert!(bounds.commits > 10, "the rollout was seen: {} commits", bounds.commits);
    }
    let key = Key::new(Kind::Deployment, "default", "web");
    cluster.delete(&key).await.expect("deleted");
    until(&cluster, "the pods are gone", |world| versions(world).is_empty()).await;
}
