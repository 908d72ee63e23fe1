//! Who is let in as a node, and who is not.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestrator_core::model::{Event, Kind};
use orchestrator_http::{JoinRole, JoinToken, Selector};
use orchestrator_tests::cluster::ClusterRig;
use orchestrator_tests::rig::poll;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use serde_json::Value;

use super::{REPLICAS, all_but_on, assert_untouched, elsewhere};

/// Has `ip` list bridges.
const BRIDGES: [&str; 5] = ["-brief", "link", "show", "type", "bridge"];
/// What the authority that signs certificates of nodes is called.
const AUTHORITY: &str = "orchd cluster authority";
/// A day, in seconds.
const DAY: i64 = 86_400;
/// For how many days an agent may come back whose certificate is over.
const FORGIVEN_DAYS: i64 = 30;
/// The object identifier of a serial number in a subject.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

#[test]
fn f34_a_second_agent_of_a_name_is_refused_and_the_first_goes_on() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            let (url, token) = (rig.server.url(), rig.token(&[]).await);
            let other = rig.node("b").machine.dir().join(format!("second-{run}"));
            let mut command = rig.node("b").agent_command(&other);
            command.args(["--server", &url, "--token", &token, "--name", "a"]);
            let said = rig.node("b").refused(&mut command);
            assert!(said.contains("orchd node remove a"), "{said}");
            let same = rig.node("a").data_dir();
            let mut command = rig.node("a").agent_command(&same);
            let said = rig.node("a").refused(&mut command);
            assert!(said.contains("another agent uses"), "{said}");
            assert_eq!(rig.running().await, before, "the first goes on");
        }
    });
}

#[test]
fn f34_a_copy_of_an_agents_directory_on_another_machine_is_refused_also_while_the_first_is_cut_off()
{
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            let version = format!("copied-{run}");
            rig.deploy("web", &version, REPLICAS).await;
            let before = rig.rolled_out("web", &version, REPLICAS).await;
            let copy = rig.node("b").machine.dir().join(format!("copy-{run}"));
            copy_directory(&rig.node("a").data_dir(), &copy);
            let mut command = rig.node("b").agent_command(&copy);
            let says = ["node \"a\" is another agent's", "a copy of that one's"];
            rig.node("b").until_said(&mut command, &says).await;
            poll("people are told", || async {
                let events = rig.client.list(Kind::Event, None, &Selector::default()).await;
                let events = events.map_err(|error| error.to_string())?;
                let events: Vec<Event> = serde_json::from_value(events["items"].clone())
                    .map_err(|error| error.to_string())?;
                let told = events
                    .iter()
                    .any(|it| it.reason == "AgentRefused" && it.involved_object.name == "a");
                if told { Ok(()) } else { Err(format!("{events:?}")) }
            })
            .await;
            assert_eq!(rig.running().await, before, "the first goes on");
            // The addresses of the first one's pods lead to them alone.
            let bridges = rig.node("b").machine.run(Command::new("ip").args(BRIDGES));
            assert_eq!(bridges.expect("listed").matches("orcb").count(), 1, "its own bridge alone");
            // What the first one runs nobody may run beside it, though it is not heard (S15).
            rig.node("a").cut();
            rig.until_ready("a", false).await;
            let mut command = rig.node("b").agent_command(&copy);
            rig.node("b").until_said(&mut command, &["orchd node remove a"]).await;
            rig.until("pods elsewhere", |pods| all_but_on("a", pods)).await;
            rig.node("a").heal();
            rig.until_ready("a", true).await;
            rig.settle().await;
            let after = rig.until("all run", |pods| all_but_on("a", pods)).await;
            assert_untouched(&elsewhere("a", &before), &after);
        }
    });
}

#[test]
fn f42_a_token_that_was_used_and_the_certificate_of_a_node_that_was_removed_are_worth_nothing() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for _ in rig.runs() {
            let (url, token) = (rig.server.url(), rig.token(&[]).await);
            rig.remove_node("b").await;
            // Its pods are another's now, and it is told nothing any more.
            let others = ["a", "c"].map(str::to_owned);
            rig.until("pods elsewhere", |pods| {
                pods.len() == REPLICAS as usize && pods.values().all(|it| others.contains(&it.node))
            })
            .await;
            rig.node("b").kill_agent();
            rig.node("b").join(&url, &token).await;
            rig.settle().await;
            let stranger = rig.node("b").machine.dir().join("stranger");
            let mut command = rig.node("b").agent_command(&stranger);
            command.args(["--server", &url, "--token", &token, "--name", "stranger"]);
            let said = rig.node("b").refused(&mut command);
            assert!(said.contains("has been used by the node \"b\""), "{said}");
        }
    });
}

#[test]
fn f42_a_token_that_was_changed_revoked_or_made_elsewhere_lets_nobody_in_and_says_why() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        let stranger = rig.boot_stranger("elsewhere").await;
        for run in rig.runs() {
            let url = rig.server.url();
            let good = rig.token(&[]).await;
            let elsewhere = stranger.orchd(&["token", "create"]).await;
            let revoked = rig.token(&[]).await;
            let id = revoked.split('.').nth(2).expect("its id");
            rig.server.orchd(&["token", "revoke", id]).await;
            let servers = rig.token(&["--role", "server"]).await;
            let of_another = rig.token(&["--node", "another"]).await;
            // The cluster's own root, and a secret that it never made.
            let root = std::fs::read_to_string(rig.server.data_dir().join("pki/root.crt"));
            let root = root.expect("a root");
            let invented = JoinToken::new(&root, JoinRole::Agent).expect("a token").reveal();
            let cut_short = &good[..good.len() - 1];
            let not_this_one = "it is not a server of the cluster that";
            for (number, (token, why)) in [
                (&*with_other_digit(&good, 3), not_this_one),
                (&elsewhere, not_this_one),
                (&with_other_digit(&good, 4), "the join token is unknown, used or expired"),
                (&invented, "the join token is unknown, used or expired"),
                (&revoked, "the join token is unknown, used or expired"),
                (cut_short, "this is no join token"),
                (&servers, "the token is not one for agents"),
                (&of_another, "the join token is for the node \"another\" and no other"),
            ]
            .into_iter()
            .enumerate()
            {
                let dir = rig.node("c").machine.dir().join(format!("nobody-{run}-{number}"));
                let mut command = rig.node("c").agent_command(&dir);
                command.args(["--server", &url, "--token", token, "--name", "nobody"]);
                let said = rig.node("c").refused(&mut command);
                assert!(said.contains(why), "{number}: {said}");
                let secret = token.rsplit('.').next().expect("a secret");
                assert!(!said.contains(secret), "{number}: {said}");
            }
            assert_eq!(rig.running().await, before, "nobody was disturbed");
        }
    });
}

#[test]
fn f42_an_agent_whose_certificate_is_over_comes_back_for_thirty_days_and_is_then_told_what_to_do() {
    ClusterRig::share(async |rig| {
        let mut before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            let kept = rig.node("a").data_dir().join("agent.json");
            rig.node("a").kill_agent();
            age(&kept, &rig.server.data_dir(), FORGIVEN_DAYS - 1);
            rig.node("a").start_agent().await;
            rig.until_ready("a", true).await;
            let now = rig.running().await;
            assert_untouched(&elsewhere("a", &before), &now);
            rig.node("a").kill_agent();
            let good = age(&kept, &rig.server.data_dir(), FORGIVEN_DAYS + 1);
            let dir = rig.node("a").data_dir();
            let mut command = rig.node("a").agent_command(&dir);
            rig.node("a").until_said(&mut command, &["join anew", "orchd node remove a"]).await;
            std::fs::write(&kept, good).expect("written");
            rig.node("a").start_agent().await;
            rig.deploy("web", &format!("again-{run}"), REPLICAS).await;
            before = rig.rolled_out("web", &format!("again-{run}"), REPLICAS).await;
        }
    });
}

#[test]
fn f42_a_server_that_another_authority_vouches_for_is_told_nothing() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        let stranger = rig.boot_stranger("astray").await;
        for run in rig.runs() {
            // An agent that is led to another cluster's server: by its own will, and by what is in a copied directory.
            let copy = rig.node("c").machine.dir().join(format!("led-astray-{run}"));
            copy_directory(&rig.node("c").data_dir(), &copy);
            let mut command = rig.node("c").agent_command(&copy);
            command.args(["--server", &stranger.url()]);
            let says = ["invalid peer certificate", "it is not a server of the cluster that"];
            rig.node("c").until_said(&mut command, &says).await;
            let nodes = stranger.orchd(&["node", "list"]).await;
            assert!(!nodes.lines().any(|line| line.starts_with("c ")), "{nodes}");
            assert_eq!(rig.running().await, before, "its pods go on");
        }
    });
}

fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp runs").success(), "{} is copied", from.display());
}

/// A token in which the last digit of a part, from 0, is another.
fn with_other_digit(token: &str, part: usize) -> String {
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let last = parts[part].pop();
    parts[part].push(if last == Some('0') { '1' } else { '0' });
    parts.join(".")
}

/// Replaces the certificate that an agent keeps by one for the same key that has been over for so many days; returns what was kept.
fn age(kept: &Path, server_data: &Path, days: i64) -> String {
    let text = std::fs::read_to_string(kept).expect("it has joined");
    let mut membership: Value = serde_json::from_str(&text).expect("JSON");
    let field = |name: &str| membership[name].as_str().expect("a text").to_owned();
    let pki = |file: &str| {
        std::fs::read_to_string(server_data.join("pki").join(file)).expect("the server's")
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let until = i64::try_from(now).expect("a time") - days * DAY;
    let at = |seconds: i64| {
        let since = Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    // The authority that signed it was there then.
    let key_of = |pem: &str| KeyPair::from_pem(pem).expect("a key");
    let root = Issuer::from_ca_cert_pem(&pki("root.crt"), key_of(&pki("root.key")));
    let own_key = key_of(&pki("issuing.key"));
    let own = Issuer::from_ca_cert_pem(&pki("issuing.crt"), &own_key).expect("an authority");
    let mut authority = CertificateParams::default();
    authority.distinguished_name = DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, AUTHORITY);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.not_before = at(until - DAY);
    let authority = authority.signed_by(&own_key, &root.expect("an authority")).expect("signed");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", field("node")));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), field("uid"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = at(until - DAY);
    params.not_after = at(until);
    let key = KeyPair::from_pem(&field("key")).expect("a key");
    let signed = params.signed_by(&key, &own).expect("signed");
    membership["certificate"] = (signed.pem() + &authority.pem()).into();
    std::fs::write(kept, membership.to_string()).expect("written");
    text
}
