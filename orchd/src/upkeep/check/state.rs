//! What lies in the store: whether all of it can be read, and whether what must be true of it is.

use std::collections::BTreeMap;

use orchestrator_core::dump::DumpItem;
use orchestrator_core::model::{Kind, Node, Revision};
use orchestrator_core::soundness::{Defect, defects};
use orchestrator_core::store::{Page, Quarantined, Record};
use orchestrator_core::world::World;
use orchestrator_seal::{KeyRing, is_sealed, open_record};

use super::Finding;
use crate::data_dir::DataDir;
use crate::out;
use crate::store::{EtcdArgs, StoreUrl};
use crate::upkeep::dump::Dump;

/// How many seconds two clocks may differ before certificates and tokens are judged wrongly.
const CLOCKS_DIFFER_MAX: i64 = 5;
/// The oldest Docker Engine that is supported.
const DOCKER_MIN: (u32, u32) = (20, 10);

/// Looks at the state of a data directory's server.
pub async fn look(
    dir: &DataDir,
    asked: Option<&StoreUrl>,
    etcd: &EtcdArgs,
    now: i64,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let page = match read(dir, asked, etcd, now, &mut findings).await {
        Ok(page) => page,
        Err(error) => {
            let advice = "read the message; a damaged database is restored with `orchd restore`";
            findings.push(Finding::failure("store", out::chain(&error), advice));
            return findings;
        }
    };
    let (page, clear) = opened(dir, page, &mut findings);
    if clear > 0 {
        findings.push(Finding::warning(
            "secrets",
            format!("{clear} secrets lie in clear"),
            "start the server once: it seals them",
        ));
    }
    let world = World::from_pages([page]);
    let found = defects(&world);
    if found.is_empty() {
        findings.push(Finding::ok(
            "objects",
            format!("{} objects, no invariant broken", count(&world)),
        ));
    }
    findings.extend(found.into_iter().map(told));
    findings.extend(world.all::<Node>(None).map(|node| of_node(node)));
    findings
}

/// Reads everything there is.
async fn read(
    dir: &DataDir,
    asked: Option<&StoreUrl>,
    etcd: &EtcdArgs,
    now: i64,
    findings: &mut Vec<Finding>,
) -> anyhow::Result<Page> {
    let mut dump = Dump::of_data_dir(dir, asked, etcd).await?;
    let header = dump.header().await?;
    let mut page = Page { revision: header.revision, ..Page::default() };
    while let Some(item) = dump.next().await? {
        match item {
            DumpItem::Record(record) => page.records.push(record),
            DumpItem::Unreadable(quarantined) => page.quarantined.push(quarantined),
            DumpItem::File { .. } => {}
        }
    }
    findings.push(of_store(&page));
    findings.extend(match dump.is_of_server() {
        true => {
            [Finding::ok("server", "the server runs"), of_clock(header.taken_at.as_seconds() - now)]
        }
        false => [
            Finding::ok("server", "no server runs here"),
            Finding::ok("clock", "not compared: no server runs here"),
        ],
    });
    Ok(page)
}

/// How the server's clock is, which is so many seconds before this one.
fn of_clock(differ: i64) -> Finding {
    match differ.abs() <= CLOCKS_DIFFER_MAX {
        true => Finding::ok("clock", "as the server's"),
        false => Finding::failure(
            "clock",
            format!("the server's clock is {differ} s off this one"),
            "let both follow a time server (systemd-timesyncd, chrony)",
        ),
    }
}

fn of_store(page: &Page) -> Finding {
    let newest = page.records.iter().map(|record| record.revision).max();
    let newest = newest.unwrap_or(Revision::ZERO);
    match newest <= page.revision {
        true => Finding::ok(
            "store",
            format!("{} records at revision {}", page.records.len(), page.revision),
        ),
        false => Finding::failure(
            "store",
            format!("a record has revision {newest}, and the newest commit {}", page.revision),
            "the store was put back without `orchd restore`: restore a backup",
        ),
    }
}

/// Opens the secrets of a page; also, how many were not sealed.
fn opened(dir: &DataDir, mut page: Page, findings: &mut Vec<Finding>) -> (Page, usize) {
    let keys = match KeyRing::read(dir.key_file()) {
        Ok(keys) => Some(keys),
        Err(error) => {
            let advice = "put the file of the old data directory, or of a backup, back";
            findings.push(Finding::failure("secrets", out::chain(&error.into()), advice));
            None
        }
    };
    let (mut clear, mut sealed) = (0, 0);
    let records = std::mem::take(&mut page.records);
    for record in records {
        if record.key.object.kind != Kind::Secret {
            page.records.push(record);
            continue;
        }
        match is_sealed(&record.value) {
            true => sealed += 1,
            false => clear += 1,
        }
        let Some(keys) = &keys else { continue };
        match open_record(keys, &record.key, &record.value) {
            Ok(value) => page.records.push(Record { value, ..record }),
            Err(error) => page.quarantined.push(Quarantined {
                key: record.key.to_string(),
                reason: error.to_string(),
                revision: Some(record.revision),
            }),
        }
    }
    if let Some(keys) = keys {
        let found = format!("{sealed} sealed; key {} seals new ones", keys.current());
        findings.push(Finding::ok("secrets", found));
    }
    (page, clear)
}

fn told(Defect { invariant, key, what }: Defect) -> Finding {
    let advice = match invariant {
        "S11" if key.starts_with("Secret/") => {
            "put the key that is named back into secrets.keys, and start the server again; or delete the secret and make it anew"
        }
        "S11" => "restore a backup from before, or delete the object and apply it anew",
        "S12" => "move pods away: `orchd node drain`, or delete some",
        "S26" => "delete the younger pod",
        _ => "please report this, with the output of `orchd describe` of the object",
    };
    Finding::failure("objects", format!("{invariant}: {key} {what}"), advice)
}

fn of_node(node: &Node) -> Finding {
    let (name, info) = (&node.metadata.name, &node.status.node_info);
    let runtime = &info.container_runtime_version;
    let docker = runtime.strip_prefix("docker://").and_then(|version| {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    });
    match docker {
        Some(version) if version < DOCKER_MIN => Finding::failure(
            "node",
            format!("{name} has {runtime}"),
            format!("install Docker Engine {}.{} or newer", DOCKER_MIN.0, DOCKER_MIN.1),
        ),
        _ if !node.is_ready() => Finding::warning(
            "node",
            format!("{name} is not Ready"),
            format!("`orchd describe node {name}` tells why; look whether its agent runs"),
        ),
        _ => Finding::ok(
            "node",
            format!("{name} is Ready, {runtime}, agent {}", info.kubelet_version),
        ),
    }
}

fn count(world: &World) -> usize {
    let mut by_kind: BTreeMap<Kind, usize> = BTreeMap::new();
    for kind in Kind::ALL.into_iter().chain(world.custom_kinds_kept()) {
        by_kind.insert(kind, world.list(kind, None).count());
    }
    by_kind.values().sum()
}
