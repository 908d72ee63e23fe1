//! Documents: JSON to typed objects and back, YAML to values and back.

use orchestrator_core::api::Request;
use orchestrator_core::manifest;
use orchestrator_core::model::{Key, Object, Part, count_values};

use crate::world::{bench, is_short, kind_of, options};

/// A kind, a line end, and an object in JSON.
pub(crate) fn decode(input: &[u8]) -> bool {
    let (kind, document) = kind_of(input);
    let Ok((value, _)) = manifest::read_json(document) else { return false };
    count_values(&value).expect("the reader counts");
    let Ok(object) = Object::from_value(kind, value.clone()) else { return false };
    let written = object.to_value();
    let read = Object::from_value(kind, written.clone()).expect("what is written can be read");
    assert_eq!(read, object, "as it was");
    assert_eq!(read.to_value(), written, "and is written the same");
    let namespace = match object.meta().namespace.as_str() {
        _ if !kind.is_namespaced() => "",
        "" => "default",
        namespace => namespace,
    };
    let mut bench = bench();
    let create = Request::Create {
        kind,
        namespace: namespace.to_owned(),
        object: value,
        options: options(),
    };
    // The key of a decoded object may be nonsense; it must not hurt.
    let _ = bench.world.get(&Key::new(kind, namespace, &read.meta().name));
    match bench.submit(&create) {
        Ok(effect) => {
            let key = effect.reply.key();
            let object = bench.value(&key).expect("what was created is there");
            let update = Request::Update { key, part: Part::Main, object, options: options() };
            let again = bench.submit(&update).expect("what was admitted is admitted again");
            assert!(again.proposal.is_none(), "and nothing changes: {:?}", again.reply);
            true
        }
        Err(rejection) => is_short(&rejection, input),
    }
}

/// A manifest in YAML or JSON.
pub(crate) fn yaml(input: &[u8]) -> bool {
    if let Ok(value) = manifest::read_yaml(input, "fuzz") {
        count_values(&value).expect("the reader counts");
    }
    let documents = match manifest::parse(input, "fuzz") {
        Ok(documents) => documents,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1, "{error}");
            assert!(error.message.len() <= 4_096 + 4 * input.len(), "{error}");
            return false;
        }
    };
    let lines = 1 + input.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for document in &documents {
        let text = manifest::to_yaml(&document.value);
        let read = manifest::parse(text.as_bytes(), "fuzz")
            .unwrap_or_else(|error| panic!("what is written can be read: {error}\n{text}"));
        let [again] = &read[..] else { panic!("{} documents of one:\n{text}", read.len()) };
        assert_eq!(again.value, document.value, "as it was:\n{text}");
        assert!((1..=lines).contains(&document.line), "line {} of {lines}", document.line);
        let top = document.value.as_object().into_iter().flatten();
        for (name, _) in top.take(8) {
            let line = manifest::locate(document, name);
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{name}: {line:?}");
        }
        let _ = manifest::locate_mentioned(document, &text);
    }
    !documents.is_empty()
}
