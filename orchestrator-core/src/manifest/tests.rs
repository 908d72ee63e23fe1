//! Tests of the manifest reader.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<Value> {
    let documents = parse(text.as_bytes(), "m.yaml").expect(text);
    documents.into_iter().map(|document| document.value).collect()
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, expected: &str) {
    let error = parse(text.as_ref(), "m.yaml").expect_err("must be refused").to_string();
    assert!(error.contains(expected), "{error:?} lacks {expected:?}");
}

#[test]
fn a_stream_of_documents_is_read_and_empty_ones_are_left_out() {
    let text = "# head\n---\nkind: A\n---\n# nothing\n---\nkind: B\nspec: {n: 0644}\n...\n";
    assert_eq!(values(text), [json!({"kind": "A"}), json!({"kind": "B", "spec": {"n": 420}})]);
    assert!(values("").is_empty());
}

#[test]
fn a_list_is_taken_apart_and_its_items_know_their_lines() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n- kind: B\n  spec:\n    x: 1\n";
    let documents = parse(text.as_bytes(), "m.yaml").expect("a list");
    assert_eq!(documents.len(), 2);
    assert_eq!((documents[0].line, documents[1].line), (4, 5));
    assert_eq!(locate(&documents[1], "spec.x"), Some(7));
    assert_eq!(locate(&documents[1], "spec.y.z"), Some(6));
}

#[test]
fn a_field_is_found_by_its_path() {
    let text = "kind: D\nmetadata:\n  labels:\n    a.b/c: x\nspec:\n  cs:\n  - name: x\n    bogus: 1\n  - {name: y,\n     bad: 2}\n";
    let document = &parse(text.as_bytes(), "m.yaml").expect(text)[0];
    let line = |path| locate(document, path);
    assert_eq!(line("spec.cs[0].bogus"), Some(8));
    assert_eq!(line(".spec.cs[1].bad"), Some(10));
    assert_eq!(line("metadata.labels.a.b/c"), Some(4));
    assert_eq!(line("metadata.labels[a.b/c]"), Some(4));
    assert_eq!(line("status.phase"), Some(1));
}

#[test]
fn the_fields_a_message_speaks_of_are_found() {
    let text = "kind: Deployment\nspec:\n  replicas: -1\n  bogus: 1\n  cs:\n  - image: x\n";
    let document = &parse(text.as_bytes(), "m.yaml").expect(text)[0];
    let check = |message: &str, expected: &[(&str, usize)]| {
        let found = locate_mentioned(document, message);
        let found: Vec<_> = found.iter().map(|(path, line)| (path.as_str(), *line)).collect();
        assert_eq!(found, expected, "{message}");
    };
    check("strict decoding error: unknown field \"spec.bogus\"", &[("spec.bogus", 4)]);
    check(
        "Deployment.apps \"web\" is invalid: [spec.replicas: Invalid value: -1: must be 0 or more, spec.cs[0]: Required value]",
        &[("spec.replicas", 3), ("spec.cs[0]", 6)],
    );
    check("spec.selector.matchLabels: Required value", &[("spec.selector.matchLabels", 2)]);
    check("namespaces \"nowhere\" not found", &[]);
}

#[test]
fn json_is_read_with_its_own_rules_and_lines() {
    let text = "{\n\t\"kind\": \"A\",\n\t\"s\": \"\\ud83d\\ude00\\/\",\n\t\"spec\": {\"x\": 1}\n}\n{\"kind\": \"B\"}";
    let documents = parse(text.as_bytes(), "m.json").expect("JSON");
    assert_eq!(documents[0].value["s"], "\u{1f600}/");
    assert_eq!(documents[1].line, 6);
    refused("{\"a\": 1,\n \"b\": {\"c\": 1, \"c\": 2}}", "m.yaml:2:");
    refused("{\"a\": 1,\n \"b\": {\"c\": 1, \"c\": 2}}", "b.c: given twice");
    refused("{\"a\": ", "m.yaml:1:");
    assert_eq!(values("{kind: A, on: yes}"), [json!({"kind": "A", "on": true})]);
}

#[test]
fn a_key_given_twice_is_an_error_with_both_lines() {
    refused("kind: A\nspec:\n  x: 1\n  x: 2\n", "m.yaml:4:3: spec.x: given twice, first on line 3");
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nlist: [*b]\n";
    assert_eq!(
        values(text),
        [json!({"base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}]})]
    );
    refused("a: &a [*a]", "alias inside");
}

#[test]
fn bombs_are_refused_precisely() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let refs = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    refused(&bomb, "aliases blow");
    refused("[".repeat(100_000), "nested more than 100 levels deep");
    refused("{\"a\":".repeat(100_000), "nested more than 100");
    refused(format!("{{\"a\":{}{}}}", "[".repeat(110), "]".repeat(110)), "nested more than 100");
    let mut block = String::new();
    (0..200).for_each(|depth| block.push_str(&format!("{}a:\n", " ".repeat(depth))));
    refused(block, "nested more than 100 levels deep");
    let mut chain = "a0: &a0 [x]\n".to_owned();
    (1..200).for_each(|n| chain.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1)));
    refused(chain, "nested more than 100 levels deep");
    refused(vec![b' '; MANIFEST_BYTES_MAX + 1], "too many for a manifest");
}

#[test]
fn a_document_of_many_values_is_refused_in_each_form() {
    let most = "0,".repeat(DOCUMENT_VALUES_MAX - 2);
    let (fits, over) = (format!("{{\"a\":[{most}0]}}"), format!("{{\"a\":[{most}0,0]}}"));
    // The list, the object, and one for each element.
    assert!(read_json(over.as_bytes()).is_err());
    assert!(read_json(fits.replace("0,0", "0").as_bytes()).is_ok());
    for text in [over.clone(), format!("a: [{most}0,0]")] {
        let error = read_yaml(text.as_bytes(), "body").expect_err("too many").to_string();
        assert!(error.contains("it holds more than 100000 values"), "{error}");
    }
    assert_eq!(parse(over.as_bytes(), "m.yaml").expect("a manifest may hold more").len(), 1);
}

#[test]
fn anchors_within_anchors_do_not_multiply() {
    let anchors: String = (0..90).map(|n| format!("&a{n} [")).collect();
    let bomb = format!("a: {anchors}{}x{}", "x,".repeat(50_000), "]".repeat(90));
    refused(&bomb, "aliases blow");
}

#[test]
fn a_long_key_above_many_values_takes_the_room_of_one() {
    let key = "k".repeat(1 << 20);
    let text = format!("kind: A\n? {key}\n: [{}x]\nz: 1\n", "x,".repeat(100_000));
    let document = &parse(text.as_bytes(), "m.yaml").expect("valid")[0];
    let bytes: usize = document.places.keys().map(String::len).sum();
    assert!(bytes <= PLACE_BYTES_MAX, "{bytes}");
    assert_eq!(locate(document, &format!("{key}[99999]")), Some(2));
    assert_eq!(locate(document, "z"), Some(4));
    let twice = format!("{{\"{key}\": {{{}\"x\": 1}}}}", "\"x\": 1,".repeat(1_000));
    let (_, duplicates) = read_json(twice.as_bytes()).expect("JSON");
    assert_eq!(duplicates.len(), 32);
    assert!(duplicates.iter().all(|DuplicateField(path)| path.chars().count() < 300));
    refused(&twice, "given twice");
}

#[test]
fn a_body_is_one_object_in_yaml_or_json() {
    let read = |text: &str| read_yaml(text.as_bytes(), "body").map_err(|error| error.to_string());
    assert_eq!(read("a: yes\n"), Ok(json!({ "a": true })));
    assert_eq!(read("{\"a\": \"yes\"}"), Ok(json!({ "a": "yes" })));
    assert_eq!(read("{a: 1}"), Ok(json!({ "a": 1 })));
    for (text, why) in [
        ("", "found nothing"),
        ("---\n", "found nothing"),
        ("a: 1\n---\nb: 1\n", "more than one document"),
        ("{\"a\": 1} {\"b\": 2}", "more than one document"),
        ("{\"a\": 1, \"a\": 2}", "a: given twice"),
        ("a: 1\na: 2\n", "a: given twice"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn what_is_no_manifest_is_refused_with_its_place() {
    refused(b"kind: A\nname: \xff\n", "m.yaml:2:7: not valid UTF-8 (byte 0xff)");
    refused("just text", "m.yaml:1:1: expected an object, found a string");
    refused("a: b: c", "m.yaml:1:");
    refused("a:\n\t- b", "m.yaml:2:");
    refused("[a]: b", "a key must be text");
    refused("a: !custom b", "the tag !custom means nothing here");
    refused("a: .inf", "is no number that JSON can hold");
    refused("kind: List\nitems: [x]", "items[0]: expected an object");
}

#[test]
fn yaml_is_printed_as_kubectl_prints_it() {
    let value = json!({"a": {"b": [{"c": "x", "d": 1}, "yes", [1, "2"]]}, "e": {}, "f": [], "g": "two\nlines\n", "h": "a: b", "i": ""});
    let expected = "a:\n  b:\n  - c: x\n    d: 1\n  - \"yes\"\n  - - 1\n    - \"2\"\ne: {}\nf: []\ng: |\n  two\n  lines\nh: \"a: b\"\ni: \"\"\n";
    assert_eq!(to_yaml(&value), expected);
    assert_eq!(values(expected), [value]);
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~\n\té]{0,12}",
        "[-+0-9._eExXoO:~# ]{0,6}",
        Just("null".to_owned()),
        Just("<<".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(text.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn printed_yaml_reads_back_as_the_same_value(value in any_value()) {
        let wrapped = json!({ "v": value });
        let text = to_yaml(&wrapped);
        let back = parse(text.as_bytes(), "m.yaml");
        prop_assert!(back.is_ok(), "{back:?} in {text:?}");
        prop_assert_eq!(&back.expect("checked")[0].value, &wrapped, "{:?}", text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-c:{}\\[\\],&*<!|>'\"\\-\n #%@]{0,60}") {
        let _ = parse(&bytes, "m");
        let _ = parse(text.as_bytes(), "m");
    }
}
