//! A pod's end of its wire, set up in the pod's network namespace.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::linux::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns};
use orchestrator_core::node::{KernelNetwork, PlumbingError, PodWire};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::sync::oneshot;

use crate::error::NetError;
use crate::link::{self, Links};

/// The name of a pod's own end.
pub(super) const INSIDE: &str = "eth0";

/// Opens the network namespace of a process.
pub(super) fn of(pid: u32) -> Result<File, PlumbingError> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => PlumbingError::PodGone { pid },
        _ => backend(NetError::io(format!("opening the network of process {pid}"))(error)),
    };
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(gone)?;
    let own = File::open("/proc/thread-self/ns/net").and_then(|own| own.metadata());
    let is_own = match (own, namespace.metadata()) {
        (Ok(own), Ok(it)) => own.st_ino() == it.st_ino(),
        (Err(error), _) | (_, Err(error)) => return Err(gone(error)),
    };
    if is_own {
        let error = io::Error::other("it has none of its own");
        return Err(backend(NetError::io(format!("opening the network of process {pid}"))(error)));
    }
    Ok(namespace)
}

/// Sets a pod's end up. `outside` is the number of the node's end.
pub(super) async fn set_up(
    namespace: File,
    outside: u32,
    pod: &PodWire,
    network: &KernelNetwork,
) -> Result<(), PlumbingError> {
    let (pod, network) = (pod.clone(), network.clone());
    let (tell, told) = oneshot::channel();
    // A thread of its own: one of the runtime's would have to find its way back.
    let thread = std::thread::Builder::new().name("pod-wire".to_owned()).spawn(move || {
        let outcome = inside(&namespace, outside, &pod, &network);
        // Whoever asked may have given up.
        let _ = tell.send(outcome);
    });
    thread.map_err(|error| backend(NetError::io("making a thread")(error)))?;
    told.await.map_err(|error| PlumbingError::Backend(Box::new(error)))?
}

fn inside(
    namespace: &File,
    outside: u32,
    pod: &PodWire,
    network: &KernelNetwork,
) -> Result<(), PlumbingError> {
    let entered = setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    entered.map_err(|error| backend(NetError::io("entering a pod's network")(error)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| backend(NetError::io("making a runtime")(error)))?;
    runtime.block_on(async {
        let opened = rtnetlink::new_connection().map_err(NetError::io("opening netlink"));
        let (connection, handle, _) = opened.map_err(backend)?;
        let connection = tokio::spawn(connection);
        let outcome = configure(&handle, outside, pod, network).await;
        connection.abort();
        outcome
    })
}

async fn configure(
    handle: &Handle,
    outside: u32,
    pod: &PodWire,
    network: &KernelNetwork,
) -> Result<(), PlumbingError> {
    let links = Links::read(handle).await.map_err(backend)?;
    let own = links.find(INSIDE).filter(|device| device.other_end == Some(outside));
    let Some(own) = own else {
        return Err(PlumbingError::AddressTaken { address: pod.address });
    };
    let set = async {
        if let Some(loopback) = links.find("lo") {
            link::up(handle, loopback, "lo").await?;
        }
        let mtu = network.bridge.mtu;
        if own.mtu != mtu {
            let message = LinkUnspec::new_with_index(own.index).mtu(mtu).build();
            let outcome = handle.link().change(message).execute().await;
            outcome.map_err(NetError::netlink("setting the size of a pod's packets"))?;
        }
        let addresses = link::addresses(handle).await?;
        let address = (pod.address, network.slice.prefix());
        link::only_address(handle, &addresses, own.index, address).await?;
        link::up(handle, own, INSIDE).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(network.bridge.address)
            .output_interface(own.index);
        let outcome = handle.route().add(route.build()).replace().execute().await;
        outcome.map_err(NetError::netlink("making a pod's way out"))
    };
    set.await.map_err(backend)
}

pub(super) fn backend(error: NetError) -> PlumbingError {
    PlumbingError::Backend(Box::new(error))
}
