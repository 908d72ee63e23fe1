//! The files of the data directory: who may read them, whether the keys are there, and until when the certificates are good.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use orchestrator_http::{Pki, brief_duration, certificate_validity};

use super::Finding;
use crate::data_dir::{DATABASE, PKI};
use crate::out;

const DAY: i64 = 86_400;
/// How long before its end a certificate is warned of. The issuing authority is renewed in its last 30 days, by a start.
const WARN_BEFORE: i64 = 31 * DAY;

/// Looks at the files of a data directory.
pub fn look(dir: &Path, now: i64) -> Vec<Finding> {
    let mut findings = permissions(dir);
    findings.extend(certificates(&dir.join(PKI), now));
    findings.extend(keys(&dir.join(PKI)));
    findings
}

fn permissions(dir: &Path) -> Vec<Finding> {
    let files = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let is_secret =
        |name: &str| name.starts_with(DATABASE) || ["audit.log", "kubeconfig"].contains(&name);
    let secret = files(dir).filter(|it| is_secret(&it.file_name().to_string_lossy()));
    let open: Vec<_> = secret
        .chain(files(&dir.join(PKI)))
        .map(|entry| entry.path())
        .filter_map(|path| {
            let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o777;
            (mode & 0o077 != 0).then(|| {
                Finding::failure(
                    "files",
                    format!("{} may be read by others (mode {mode:o})", path.display()),
                    format!("chmod 600 {}", path.display()),
                )
            })
        })
        .collect();
    match open.is_empty() {
        true => vec![Finding::ok("files", "only their owner may read them")],
        false => open,
    }
}

fn certificates(pki: &Path, now: i64) -> Vec<Finding> {
    [Pki::ROOT, Pki::ISSUING].map(|name| certificate(&pki.join(name), name, now)).into()
}

fn certificate(path: &Path, name: &str, now: i64) -> Finding {
    let about = "certificates";
    let pem = match fs::read_to_string(path) {
        Ok(pem) => pem,
        Err(error) => {
            return Finding::failure(about, format!("{}: {error}", path.display()), missing(path));
        }
    };
    let renew = match name {
        Pki::ROOT => {
            "move root.crt away, that file alone, start the server once with `--new-keys`, and let agents and users in anew"
        }
        _ => {
            "start the server anew in the last 30 days: it renews the authority; root.key must be there for that"
        }
    };
    match certificate_validity(&pem) {
        None => Finding::failure(
            about,
            format!("{} is no certificate", path.display()),
            "put a backup's back",
        ),
        Some((from, _)) if from > now => Finding::failure(
            about,
            format!("{name} is good from in {}", brief_duration(from - now)),
            "this machine's clock is behind: set it",
        ),
        Some((_, until)) if until <= now => Finding::failure(
            about,
            format!("{name} ended {} ago", brief_duration(now - until)),
            renew,
        ),
        Some((_, until)) if until - now < WARN_BEFORE => Finding::warning(
            about,
            format!("{name} ends in {}", brief_duration(until - now)),
            renew,
        ),
        Some((_, until)) => {
            Finding::ok(about, format!("{name} is good for {}", brief_duration(until - now)))
        }
    }
}

/// The keys without which a server runs on and does not start again. Those of secrets are judged by what they open.
fn keys(pki: &Path) -> Vec<Finding> {
    let bad = Pki::check(pki).into_iter().map(|error| {
        let advice = "the server does not start like this, or is trusted by nobody";
        Finding::failure("keys", out::chain(&error.into()), advice)
    });
    let gone = [Pki::ROOT, Pki::ISSUING_KEY, Pki::ACCOUNTS]
        .map(|name| pki.join(name))
        .into_iter()
        .filter(|path| !path.exists())
        .map(|path| Finding::failure("keys", format!("no {}", path.display()), missing(&path)));
    let found: Vec<_> = gone.chain(bad).collect();
    match found.is_empty() {
        true => vec![Finding::ok("keys", "all are there, and fit each other")],
        false => found,
    }
}

/// What to do when a certificate cannot be read, or a key is gone.
fn missing(path: &Path) -> &'static str {
    let pki = path.parent().unwrap_or(path);
    let is_made_by_a_start =
        !path.exists() && !path.ends_with(Pki::ACCOUNTS) && pki.join(Pki::ROOT).exists();
    match is_made_by_a_start && pki.join(Pki::ROOT_KEY).exists() {
        true => "start the server anew: root.key makes another, which nodes and clients trust",
        false => {
            "put the directory pki of a backup with keys back; where there is none, `orchd server --new-keys` begins anew"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Result;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_the_clock_and_a_file_by_who_may_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let now = 1_800_000_000;
        orchestrator_http::make_keys(&dir.path().join(PKI), now).expect("made");
        let results = |now| -> Vec<Result> {
            look(dir.path(), now).into_iter().map(|finding| finding.result).collect()
        };
        assert_eq!(results(now), [Result::Ok; 4]);
        let issuing = fs::read_to_string(dir.path().join(PKI).join("issuing.crt")).expect("made");
        let (_, until) = certificate_validity(&issuing).expect("a certificate");
        assert_eq!(results(until - DAY), [Result::Ok, Result::Ok, Result::Warning, Result::Ok]);
        assert_eq!(results(until), [Result::Ok, Result::Ok, Result::Failure, Result::Ok]);
        assert_eq!(
            results(now - 10 * DAY),
            [Result::Ok, Result::Failure, Result::Failure, Result::Ok]
        );
        let key = dir.path().join(PKI).join("root.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
        let found = look(dir.path(), now);
        assert_eq!(found[0].result, Result::Failure);
        assert!(found[0].advice.contains("root.key"), "{found:?}");
    }

    #[test]
    fn a_key_that_is_gone_is_told_with_what_brings_it_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let (now, pki) = (1_800_000_000, dir.path().join(PKI));
        orchestrator_http::make_keys(&pki, now).expect("made");
        let of_keys = || {
            let found = look(dir.path(), now).into_iter().filter(|it| it.about == "keys");
            found.map(|it| (it.result, it.advice)).collect::<Vec<_>>()
        };
        assert_eq!(of_keys(), [(Result::Ok, String::new())]);
        for (name, advice) in [("sa.key", "backup with keys"), ("issuing.key", "start the server")]
        {
            fs::remove_file(pki.join(name)).expect("there");
            let found = of_keys();
            assert!(
                found
                    .iter()
                    .any(|(result, says)| *result == Result::Failure && says.contains(advice)),
                "{found:?}"
            );
        }
    }
}
