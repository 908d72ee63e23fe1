//! Which cluster is meant, exit codes, help, completions.

use std::process::Stdio;

use crate::daemon::{Daemon, orchd, run};

const VERBS: [&str; 9] =
    ["apply", "delete", "describe", "events", "explain", "get", "logs", "scale", "wait"];

#[test]
fn the_flag_counts_before_the_variable_and_the_variable_before_the_default_directory() {
    let daemon = Daemon::start();
    let home = daemon.dir.path().join("home");
    std::fs::create_dir_all(home.join("orchd")).expect("a directory");
    let default = home.join("orchd/kubeconfig");
    let (good, bad) = (daemon.kubeconfig.clone(), daemon.dir.path().join("absent"));
    let call = |flag: Option<&std::path::Path>, variable: Option<&std::path::Path>| {
        let mut command = orchd();
        command.args(["get", "nodes", "-o", "name"]).env("XDG_DATA_HOME", &home);
        command.args(flag.into_iter().flat_map(|path| ["--kubeconfig".as_ref(), path.as_os_str()]));
        if let Some(variable) = variable {
            command.env("KUBECONFIG", variable);
        }
        run(&mut command)
    };
    assert_eq!(call(Some(&good), Some(&bad)).out, "node/local\n");
    assert_eq!(call(None, Some(&good)).out, "node/local\n");
    let ran = call(Some(&bad), Some(&good));
    assert!(ran.code == Some(1) && ran.err.contains("absent: No such file"), "{ran:?}");
    let ran = call(None, None);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("no cluster is known") && ran.err.contains("`orchd dev`"), "{ran:?}");
    std::fs::copy(&good, &default).expect("a copy");
    assert_eq!(call(None, None).out, "node/local\n");
    assert_eq!(call(None, Some(&bad)).code, Some(1));

    let text = std::fs::read_to_string(&good).expect("text");
    let url = daemon.ready.split_whitespace().nth(1).expect("a URL");
    std::fs::write(&bad, text.replace(url, "https://127.0.0.1:1")).expect("a file");
    let ran = call(Some(&bad), None);
    assert!(ran.code == Some(1) && ran.err.contains("is orchd running?"), "{ran:?}");
    assert_eq!(ran.err.matches("refused").count(), 1, "{ran:?}");
    let token = text.lines().find_map(|line| line.trim().strip_prefix("token: ")).expect("a token");
    std::fs::write(&bad, text.replace(token, "wrong")).expect("a file");
    let ran = call(Some(&bad), None);
    assert!(ran.code == Some(1) && ran.err.contains("token"), "{ran:?}");
}

#[test]
fn bad_usage_ends_with_2_and_says_what_would_be_good() {
    let usage = |arguments: &[&str], says: &str| {
        let ran = run(orchd().args(arguments));
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(says), "{arguments:?}: {ran:?}");
    };
    usage(&[], "Usage: orchd");
    usage(&["fly"], "unrecognized subcommand 'fly'");
    usage(&["get"], "required");
    usage(
        &["get", "gadgets"],
        "unknown kind \"gadgets\"; the kinds are clusterroles, clusterrolebindings, configmaps (cm)",
    );
    usage(&["get", "pods", "-o", "xml"], "[possible values: json, name, table, wide, yaml]");
    usage(&["get", "pods", "x", "-l", "a=b"], "a selector does not go with a name");
    usage(&["get", "pod/x", "-A"], "-A does not go with a name");
    usage(&["get", "pod/x", "y"], "\"y\" is not KIND/NAME");
    usage(&["events", "--for", "web"], "\"web\" is not KIND/NAME");
    usage(&["events", "--type", "Bad"], "Warning");
    usage(&["apply"], "--filename");
    usage(&["delete"], "a manifest with -f");
    usage(&["wait", "pod/x"], "--for");
    usage(&["scale", "deploy/web"], "--replicas");
    usage(&["scale", "deploy/web", "--replicas", "1.5"], "a whole number from 0 to 2147483647");
    usage(&["logs", "web", "--tail", "-3"], "'-3' for '--tail <LINES>': a whole number");
    usage(&["dev", "--listen", "nowhere"], "such as 127.0.0.1:6443");
    usage(&["get", "pods", "--log", "debgu"], "\"debgu\" is no filter: write off, error, warn");
    usage(&["completions", "tcsh"], "bash");
}

#[test]
fn every_verb_helps_with_examples() {
    for verb in VERBS {
        for flag in ["-h", "--help"] {
            let ran = run(orchd().args([verb, flag]));
            assert_eq!(ran.code, Some(0), "{verb}: {ran:?}");
            assert!(
                ran.out.contains("Examples:\n  "),
                "{verb} {flag} has no examples: {}",
                ran.out
            );
            assert!(ran.out.contains(&format!("orchd {verb} ")), "{verb} {flag}: {}", ran.out);
            assert!(ran.out.contains("--kubeconfig"), "{verb} {flag}: {}", ran.out);
        }
    }
    let ran = run(orchd().arg("--help"));
    assert!(VERBS.iter().all(|verb| ran.out.contains(&format!("\n  {verb} "))), "{}", ran.out);
    assert!(!ran.out.contains("workload"), "what is for tests is not shown: {}", ran.out);
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(orchd().args(["completions", shell]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(VERBS.iter().all(|verb| ran.out.contains(verb)), "{shell} lacks a verb");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let mut child = orchd()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    // Nobody reads a byte of it.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
