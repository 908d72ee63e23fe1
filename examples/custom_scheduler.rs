//! A scheduler of one's own: every pod goes to the cheapest node on which it fits.

use std::error::Error;

use orchestrator_core::api::{Caller, Request, WriteOptions};
use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Container, Deployment, Key, Kind, Node, Part, Pod};
use orchestrator_core::scheduler::{ClusterView, Placement, Scheduler, Unfit};
use orchestrator_core::world::World;
use serde_json::json;

/// The label that says what a node costs, in cents per hour. A node without it costs the most.
const PRICE_LABEL: &str = "example.com/price";

/// Chooses the cheapest node on which a pod fits, of equally cheap ones the first by name.
#[derive(Clone, Copy, Debug)]
pub struct Cheapest;

impl Scheduler for Cheapest {
    fn name(&self) -> &str {
        "cheapest"
    }

    fn place(&self, pod: &Pod, view: &ClusterView) -> Result<Placement, Unfit> {
        let mut unfit = Unfit::new();
        let mut best: Option<Placement> = None;
        for node in view.nodes() {
            match node.fits(pod) {
                Ok(()) => {
                    let score = -price(node.node());
                    if best.as_ref().is_none_or(|best| score > best.score) {
                        best = Some(Placement::on(node.name()).scored(score));
                    }
                }
                Err(reasons) => unfit.count(&reasons),
            }
        }
        best.ok_or(unfit)
    }
}

fn price(node: &Node) -> i64 {
    let label = node.metadata.labels.get(PRICE_LABEL);
    label.and_then(|label| label.parse().ok()).unwrap_or(i64::from(u32::MAX))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // No runtime: the nodes are records only, and nothing runs. The scheduler does not know.
    let cluster = Cluster::builder().store(MemStore::new()).scheduler(Cheapest).start().await?;
    for (name, price) in [("large", "90"), ("medium", "40"), ("small", "15")] {
        add_node(&cluster, name, price).await?;
    }

    // Two pods of one CPU fit on each node.
    let one_cpu = Container::new("job", "busybox:1.36").requests(1_000, 64 << 20);
    cluster.apply(Deployment::of("jobs", vec![one_cpu]).replicas(5)).await?;
    let bound = |world: &World| world.all::<Pod>(None).filter(|pod| pod.is_bound()).count();
    let world = cluster.wait_for(|world| bound(world) == 5).await?;
    for node in world.all::<Node>(None) {
        let name = &node.metadata.name;
        println!("{name} costs {} and has {} pods", price(node), world.pods_on(name).count());
    }

    if let Some(pod) = world.all::<Pod>(None).next() {
        let explanation = cluster.explain(&Key::pod("default", &pod.metadata.name))?;
        let chosen = explanation.chosen.unwrap_or_default();
        println!("without its bind, {} would go to {chosen}", explanation.pod);
        for verdict in explanation.nodes {
            match verdict.failures.first() {
                Some(failure) => println!("  not {}: {}", verdict.node, failure.message),
                None => println!("  it fits on {}", verdict.node),
            }
        }
    }
    cluster.shutdown(false).await;
    Ok(())
}

/// Records a node and says that it is ready, as its agent would.
async fn add_node(cluster: &Cluster, name: &str, price: &str) -> Result<(), Box<dyn Error>> {
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { PRICE_LABEL: price } },
    });
    let admin = Caller::Admin { name: "example".to_owned() };
    let options = WriteOptions::default();
    let (kind, namespace) = (Kind::Node, String::new());
    cluster
        .submit(
            &admin,
            Request::Create { kind, namespace, object: node.clone(), options: options.clone() },
        )
        .await?;
    node["status"] = json!({
        "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "110" },
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Example" }],
    });
    let key = Key::node(name);
    cluster
        .submit(&admin, Request::Update { key, part: Part::Status, object: node, options })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Cheapest;

    orchestrator_core::scheduler_conformance!(Cheapest);
}
