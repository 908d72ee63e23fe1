//! Who may do what over the API: roles, tokens, certificates, and what is put down of it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use orchestrator_core::api::Caller;
use orchestrator_core::driver::{Clock, Cluster, SystemClock};
use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{
    Client, ClientConfig, ClientError, DeleteParams, Pki, Server, ServerConfig, Token, Transport,
    WriteParams, read_kubeconfig,
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, MAPS, cluster, config_map};
use crate::logs::with_a_pod;
use crate::watch::Events;

const NAMESPACE: Option<&str> = Some("default");
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn binding(user: &str, role: &str) -> Value {
    json!({
        "metadata": { "name": user },
        "roleRef": { "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "User", "name": user }],
    })
}

/// A cluster in which jane may look at the namespace `default`.
async fn fixture() -> Fixture {
    let f = Fixture::new().await;
    f.post(BINDINGS, &binding("jane", "view")).await.expect(201);
    f
}

#[tokio::test]
async fn a_reader_reads_and_is_refused_the_rest_in_the_words_of_kubernetes() {
    let f = fixture().await;
    let get = |path: &'static str| f.send_as("jane", Method::GET, path, &Value::Null);
    get(MAPS).await.expect(200);
    get("/api/v1/namespaces/default/pods/web").await.refused(404, "NotFound");
    get("/apis").await.expect(200);
    get("/version").await.expect(200);
    for (path, message) in [
        (
            "/api/v1/namespaces/default/secrets",
            "secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \
             \"default\"",
        ),
        (
            "/api/v1/configmaps",
            "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" at the cluster \
             scope",
        ),
        (
            "/api/v1/namespaces/default/pods/web/exec?command=ls&stdout=true",
            "pods \"web\" is forbidden: User \"jane\" cannot create resource \"pods/exec\" in API group \"\" in the \
             namespace \"default\"",
        ),
        ("/metrics", "forbidden: User \"jane\" cannot get path \"/metrics\""),
    ] {
        assert_eq!(get(path).await.refused(403, "Forbidden"), message);
    }
    let map = config_map("a", &json!({}));
    f.send_as("jane", Method::POST, MAPS, &map).await.refused(403, "Forbidden");
    f.send_as("jane", Method::DELETE, MAPS, &Value::Null).await.refused(403, "Forbidden");
    f.send_as("nobody", Method::GET, MAPS, &Value::Null).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn one_object_may_be_watched_by_who_may_read_that_one() {
    let f = Fixture::new().await;
    let rules = json!([{
        "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"],
        "verbs": ["get", "list", "watch"],
    }]);
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    f.post(roles, &json!({ "metadata": { "name": "one" }, "rules": rules })).await.expect(201);
    let mut bound = binding("joe", "one");
    bound["roleRef"]["kind"] = "Role".into();
    f.post(BINDINGS, &bound).await.expect(201);
    let get = |query: &'static str| async move { format!("{MAPS}?{query}") };
    let list =
        |path: String| async { f.send_as("joe", Method::GET, &{ path }, &Value::Null).await };
    list(get("fieldSelector=metadata.name%3Dmine").await).await.expect(200);
    list(get("fieldSelector=metadata.name%3Dother").await).await.refused(403, "Forbidden");
    list(get("").await).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn a_watch_ends_when_its_right_is_withdrawn() {
    let f = fixture().await;
    let jane = Transport::Known(Caller::user("jane", []));
    let mut hers = Events::open_by(&f, jane, "").await;
    let mut admins = Events::open_by(&f, Transport::Unix, "").await;
    f.config_map("before", &json!({})).await;
    let (kind, object) = hers.next().await.expect("it goes on");
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("before")));
    f.send(Method::DELETE, &format!("{BINDINGS}/jane"), &[], "").await.expect(200);
    // No change of what is watched is needed for it.
    let (kind, status) = hers.next().await.expect("a last word");
    assert_eq!((kind.as_str(), status["code"].as_u64()), ("ERROR", Some(403)), "{status}");
    assert_eq!(hers.next().await, None);
    f.config_map("after", &json!({})).await;
    assert_eq!(admins.next().await.expect("it goes on").1["metadata"]["name"], "before");
    assert_eq!(admins.next().await.expect("it goes on").1["metadata"]["name"], "after");
}

#[tokio::test]
async fn a_log_that_is_followed_breaks_off_when_its_right_is_withdrawn() {
    let f = with_a_pod().await;
    f.post(BINDINGS, &binding("jane", "view")).await.expect(201);
    let path = "/api/v1/namespaces/default/pods/a/log?follow=true";
    let request = Request::get(path).body(Empty::<Bytes>::new()).expect("well-formed");
    let answer = f.api.handle(request, Transport::Known(Caller::user("jane", []))).await;
    assert_eq!(answer.status(), 200);
    let mut log = answer.into_body();
    for line in ["one\n", "two\n", "three\n"] {
        let frame = log.frame().await.expect("it goes on").expect("whole");
        assert_eq!(frame.into_data().expect("text"), line);
    }
    f.send(Method::DELETE, &format!("{BINDINGS}/jane"), &[], "").await.expect(200);
    let last = tokio::time::timeout(Duration::from_secs(30), log.frame()).await;
    let error = last.expect("it ends").expect("not as if it were whole").expect_err("an error");
    assert!(error.to_string().contains("cannot get resource \"pods/log\""), "{error}");
    f.cluster.shutdown(true).await;
}

#[tokio::test]
async fn the_rights_of_others_are_for_those_who_may_take_them() {
    let f = fixture().await;
    let as_jane = [("impersonate-user", "jane")];
    f.send(Method::GET, MAPS, &as_jane, "").await.expect(200);
    f.send(Method::GET, "/api/v1/nodes", &as_jane, "").await.refused(403, "Forbidden");
    let masters = [("impersonate-user", "joe"), ("impersonate-group", "system:masters")];
    f.send(Method::GET, "/api/v1/nodes", &masters, "").await.expect(200);
    // Joe may be jane, and nobody else.
    let rules = json!([
        { "apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"] },
    ]);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    f.post(roles, &json!({ "metadata": { "name": "be-jane" }, "rules": rules })).await.expect(201);
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    f.post(bindings, &binding("joe", "be-jane")).await.expect(201);
    let joe = |headers: &'static [(&'static str, &'static str)]| {
        let caller = Transport::Known(Caller::user("joe", []));
        f.send_by(caller, Method::GET, MAPS, headers, "")
    };
    joe(&[]).await.refused(403, "Forbidden");
    joe(&[("impersonate-user", "jane")]).await.expect(200);
    joe(&[("impersonate-user", "root")]).await.refused(403, "Forbidden");
    joe(&[("impersonate-user", "jane"), ("impersonate-group", "system:masters")])
        .await
        .refused(403, "Forbidden");
    joe(&[("impersonate-group", "system:masters")]).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn a_watch_in_which_nothing_happens_ends_with_its_right_too() {
    let f = fixture().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let jane = Transport::Known(Caller::user("jane", []));
    let mut hers = Events::open_at(&f, jane, &format!("{jobs}?watch=true")).await;
    f.send(Method::DELETE, &format!("{BINDINGS}/jane"), &[], "").await.expect(200);
    let (kind, status) = hers.next().await.expect("a last word");
    assert_eq!((kind.as_str(), status["code"].as_u64()), ("ERROR", Some(403)), "{status}");
    assert_eq!(hers.next().await, None);
    let refusal = f.send_as("jane", Method::GET, jobs, &Value::Null).await;
    let refusal = refusal.refused(403, "Forbidden");
    let right = "cannot list resource \"jobs\" in API group \"batch\"";
    assert!(refusal.contains(right), "{refusal}");
    f.send_as("jane", Method::POST, jobs, &json!({})).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn reviews_tell_what_somebody_may_do() {
    let f = fixture().await;
    let ask = |verb: &str, resource: &str| {
        json!({ "spec": { "resourceAttributes": {
            "verb": verb, "resource": resource, "namespace": "default",
        } } })
    };
    let reviews = "/apis/authorization.k8s.io/v1";
    for (verb, resource, expected) in
        [("list", "pods", true), ("create", "pods", false), ("*", "*", false)]
    {
        let path = format!("{reviews}/selfsubjectaccessreviews");
        let review = f.send_as("jane", Method::POST, &path, &ask(verb, resource)).await.expect(201);
        assert_eq!(review["status"]["allowed"], expected, "{verb} {resource}");
        // The same, asked by somebody else.
        let mut asked = ask(verb, resource);
        asked["spec"]["user"] = "jane".into();
        let path = format!("{reviews}/subjectaccessreviews");
        let review = f.post(&path, &asked).await.expect(201);
        assert_eq!(review["status"]["allowed"], expected, "{verb} {resource}");
        f.send_as("jane", Method::POST, &path, &asked).await.refused(403, "Forbidden");
        let path = format!("{reviews}/namespaces/default/localsubjectaccessreviews");
        let review = f.post(&path, &asked).await.expect(201);
        assert_eq!(review["status"]["allowed"], expected, "{verb} {resource}");
        let path = format!("{reviews}/namespaces/other/localsubjectaccessreviews");
        f.post(&path, &asked).await.refused(400, "BadRequest");
    }
    let path = format!("{reviews}/selfsubjectrulesreviews");
    let asked = json!({ "spec": { "namespace": "default" } });
    let rules = f.send_as("jane", Method::POST, &path, &asked).await.expect(201);
    assert_eq!(rules["status"]["incomplete"], false);
    let rules = rules["status"]["resourceRules"].as_array().expect("a list").clone();
    assert!(rules.iter().any(|rule| rule["resources"].to_string().contains("\"pods\"")));
    assert!(!rules.iter().any(|rule| rule["resources"].to_string().contains("\"secrets\"")));
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = f.send_as("jane", Method::POST, path, &json!({})).await.expect(201);
    assert_eq!(
        me["status"]["userInfo"],
        json!({ "username": "jane", "groups": ["system:authenticated"] })
    );
}

/// A server with an audit log, and what its administrator's client needs.
async fn serve(directory: &Path) -> (Cluster, Server, ClientConfig) {
    let cluster = cluster().await;
    let audit_log = Some(directory.join("audit.log"));
    let config = ServerConfig { audit_log, ..ServerConfig::loopback(directory.join("pki")) };
    let server = Server::bind(config, cluster.clone()).await.expect("a free port");
    server.write_kubeconfig(&directory.join("kubeconfig")).expect("writable");
    let config = read_kubeconfig(&directory.join("kubeconfig")).expect("own kubeconfig");
    (cluster, server, config)
}

async fn stop(cluster: Cluster, server: Server) {
    server.shutdown().await;
    cluster.shutdown(false).await;
}

/// Whom the server takes a client for.
async fn who(client: &Client) -> Value {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    client.post(path, &json!({})).await.expect("known")["status"]["userInfo"].clone()
}

fn client(config: &ClientConfig) -> Client {
    Client::from_config(config).expect("usable")
}

#[tokio::test]
async fn a_service_account_is_known_by_its_token_as_long_as_it_is_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, config) = serve(directory.path()).await;
    let admin = client(&config);
    let robot = Key::new(Kind::ServiceAccount, "default", "robot");
    let account = json!({ "metadata": { "name": "robot" } });
    admin
        .create(Kind::ServiceAccount, NAMESPACE, &account, WriteParams::default())
        .await
        .expect("made");
    let mut bound = binding("robot", "view");
    bound["subjects"] =
        json!([{ "kind": "ServiceAccount", "name": "robot", "namespace": "default" }]);
    admin.create(Kind::RoleBinding, NAMESPACE, &bound, WriteParams::default()).await.expect("made");

    let asked = json!({ "spec": { "expirationSeconds": 600 } });
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let reply = admin.post(path, &asked).await.expect("a token");
    let token = reply["status"]["token"].as_str().expect("a token").to_owned();
    assert_eq!(reply["spec"]["expirationSeconds"], 600);
    let hers = ClientConfig { token: Some(Token::new(token.clone())), ..config.clone() };
    let info = who(&client(&hers)).await;
    assert_eq!(info["username"], "system:serviceaccount:default:robot");
    assert!(info["groups"].to_string().contains("system:serviceaccounts:default"), "{info}");
    client(&hers).raw("/api/v1/namespaces/default/pods").await.expect("permitted");
    let refused = client(&hers).raw("/api/v1/nodes").await.expect_err("not permitted");
    assert!(refused.to_string().contains("cannot list resource \"nodes\""), "{refused}");
    let review = json!({ "spec": { "token": token } });
    let known =
        admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect("told");
    assert_eq!(known["status"]["user"]["username"], "system:serviceaccount:default:robot");
    assert!(!known.to_string().contains(&token));

    let short = json!({ "spec": { "expirationSeconds": 5 } });
    let refused = admin.post(path, &short).await.expect_err("too short").to_string();
    assert!(refused.contains("spec.expirationSeconds: 5 must be from 600"), "{refused}");
    let other = ClientConfig { token: Some(Token::new(format!("{token}x"))), ..config.clone() };
    let refused = client(&other).raw("/api").await.expect_err("it is none of ours");
    assert_eq!(refused.code(), Some(401), "{refused}");

    // Made anew, it is another.
    admin.delete(&robot, &Default::default()).await.expect("deleted");
    let refused = client(&hers).raw("/api").await.expect_err("it is gone");
    assert_eq!(refused.code(), Some(401), "{refused}");
    admin
        .create(Kind::ServiceAccount, NAMESPACE, &account, WriteParams::default())
        .await
        .expect("made anew");
    let refused = client(&hers).raw("/api").await.expect_err("it is another").to_string();
    assert!(refused.contains("Unauthorized"), "{refused}");
    let log = std::fs::read_to_string(directory.path().join("audit.log")).expect("readable");
    assert!(!log.contains(&token), "a token is in no log");
    stop(cluster, server).await;
}

#[tokio::test]
async fn a_user_is_known_by_a_certificate_of_the_authority() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, config) = serve(directory.path()).await;
    // The server and TLS go by the time of day.
    let now = SystemClock.now().to_time().as_seconds();
    let pki = Pki::open(&directory.path().join("pki"), now).expect("the server's keys");
    let certificate = pki.client_certificate("jane", Some("readers"), 3_650, now).expect("made");
    let path = directory.path().join("jane");
    std::fs::write(&path, certificate.kubeconfig(&config, "jane")).expect("writable");
    let jane = Client::from_kubeconfig(&path).expect("own kubeconfig");
    assert_eq!(
        who(&jane).await,
        json!({ "username": "jane", "groups": ["readers", "system:authenticated"] })
    );
    let refused = jane.raw("/api/v1/nodes").await.expect_err("she has no rights");
    assert_eq!(refused.code(), Some(403), "{refused}");
    let masters = Some("system:masters");
    let certificate = pki.client_certificate("root", masters, 3_650, now).expect("made");
    std::fs::write(&path, certificate.kubeconfig(&config, "root")).expect("writable");
    let root = Client::from_kubeconfig(&path).expect("own kubeconfig");
    root.raw("/api/v1/nodes").await.expect("an administrator");

    let strangers = tempfile::tempdir().expect("a directory");
    let stranger = Pki::open(strangers.path(), now).expect("keys of another cluster");
    let certificate = stranger.client_certificate("root", masters, 3_650, now).expect("made");
    std::fs::write(&path, certificate.kubeconfig(&config, "root")).expect("writable");
    let root = Client::from_kubeconfig(&path).expect("a kubeconfig");
    let refused = root.raw("/api/v1/nodes").await.expect_err("of another authority");
    assert!(matches!(refused, ClientError::Broken { .. }), "cut off in the handshake: {refused:?}");
    stop(cluster, server).await;
}

#[tokio::test]
async fn what_changes_something_is_put_down_and_no_secret_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, config) = serve(directory.path()).await;
    let admin = client(&config);
    let path = directory.path().join("audit.log");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).expect("readable");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let key = Key::new(Kind::Secret, "default", "keys");
    let secret = json!({ "metadata": { "name": "keys" }, "stringData": { "k": "hush-hush" } });
    admin.create(Kind::Secret, NAMESPACE, &secret, WriteParams::default()).await.expect("made");
    // It is there before the answer is.
    let found = lines();
    let [line] = found.as_slice() else { panic!("one line: {found:?}") };
    let stored = admin.get(&key).await.expect("there");
    assert_eq!(line["uid"], stored["metadata"]["uid"]);
    assert!(line["source"].as_str().is_some_and(|it| it.starts_with("127.0.0.1:")), "{line}");
    for (field, expected) in [
        ("code", json!(201)),
        ("verb", json!("create")),
        ("resource", json!("secrets")),
        ("namespace", json!("default")),
        ("name", json!("keys")),
        ("user", json!("admin")),
        ("groups", json!(["system:masters", "system:authenticated"])),
    ] {
        assert_eq!(line[field], expected, "{line}");
    }
    admin.raw("/api/v1/namespaces/default/secrets").await.expect("listed");
    assert_eq!(lines().len(), 1, "what only reads is not put down");
    admin
        .create(Kind::Secret, NAMESPACE, &secret, WriteParams::default())
        .await
        .expect_err("it is there");
    admin.delete(&key, &Default::default()).await.expect("deleted");
    let found = lines();
    assert_eq!(found.last().expect("a line")["uid"], stored["metadata"]["uid"]);
    let told: Vec<_> = found.iter().map(|line| (&line["verb"], &line["code"])).collect();
    let (create, delete) = (json!("create"), json!("delete"));
    assert_eq!(told, [(&create, &json!(201)), (&create, &json!(409)), (&delete, &json!(200))]);
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(!text.contains("hush") && !text.contains("aHVzaC1odXNo"), "{text}");
    stop(cluster, server).await;
}

#[tokio::test]
async fn what_is_refused_is_put_down_too_under_the_names_that_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, config) = serve(directory.path()).await;
    let admin = client(&config);
    let last = || -> Value {
        let text = std::fs::read_to_string(directory.path().join("audit.log")).expect("readable");
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    };
    // That nothing is to happen may be said in a body too.
    admin.post(MAPS, &config_map("tried", &json!({}))).await.expect("made");
    assert_eq!(last()["dryRun"], Value::Null);
    let options = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let tried = Key::new(Kind::ConfigMap, "default", "tried");
    admin.delete(&tried, &options).await.expect("tried");
    assert_eq!((&last()["verb"], &last()["dryRun"]), (&json!("delete"), &json!(true)));
    admin.get(&tried).await.expect("still there");
    // What somebody says in a query is not what the object is called.
    let path = format!("{MAPS}?fieldSelector=metadata.name=innocent");
    admin.post(&path, &config_map("evil", &json!({}))).await.expect("made");
    assert_eq!(last()["name"], "evil");
    let masked = ClientConfig { token: Some(Token::new("wrong")), ..config.clone() };
    let refused = client(&masked).post(MAPS, &config_map("a", &json!({}))).await;
    assert_eq!(refused.expect_err("unknown").code(), Some(401));
    assert_eq!(last()["name"], "evil", "who is nobody cannot fill the log");
    stop(cluster, server).await;
}
