//! What a client accepts, and what it sends.

use crate::status::Failure;

/// The form of an answer with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Whole objects.
    Json,
    /// Metadata only.
    Metadata,
    /// Columns for people.
    Table,
}

/// The form of an answer to discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiscoveryFormat {
    /// Everything at once, of this version of the format.
    Aggregated(&'static str),
    /// One document per step.
    Legacy,
}

/// The form of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Protobuf,
    Yaml,
}

struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).collect();
        Self { media_type, parameters }
    }

    fn is_json(&self) -> bool {
        ["application/json", "application/*", "*/*"]
            .iter()
            .any(|known| self.media_type.eq_ignore_ascii_case(known))
    }

    /// The parameters that choose a form: (as, group, version); `None` when there are others we do not know.
    fn form(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let mut form = ("", "", "");
        for (name, value) in &self.parameters {
            match *name {
                "as" => form.0 = value,
                "g" => form.1 = value,
                "v" => form.2 = value,
                "charset" | "pretty" | "q" | "stream" => {}
                _ => return None,
            }
        }
        Some(form)
    }
}

fn ranges(accept: Option<&str>) -> impl Iterator<Item = Range<'_>> {
    accept.filter(|text| !text.trim().is_empty()).unwrap_or("*/*").split(',').map(Range::parse)
}

/// Chooses the form of an answer with objects: the first range that can be served.
///
/// # Errors
/// 406 when none can.
pub(crate) fn objects(accept: Option<&str>) -> Result<Format, Failure> {
    ranges(accept)
        .filter(Range::is_json)
        .find_map(|range| match range.form()? {
            ("", _, _) => Some(Format::Json),
            ("Table", "meta.k8s.io", "v1") => Some(Format::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Some(Format::Metadata)
            }
            _ => None,
        })
        .ok_or_else(|| {
            Failure::not_acceptable(
                "only the following media types are accepted: application/json, \
                 application/json;as=Table;g=meta.k8s.io;v=v1, \
                 application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            )
        })
}

/// Chooses the form of an answer to discovery.
pub(crate) fn discovery(accept: Option<&str>) -> DiscoveryFormat {
    ranges(accept)
        .filter(Range::is_json)
        .find_map(|range| match range.form()? {
            ("", _, _) => Some(DiscoveryFormat::Legacy),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => {
                Some(DiscoveryFormat::Aggregated("v2"))
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => {
                Some(DiscoveryFormat::Aggregated("v2beta1"))
            }
            _ => None,
        })
        .unwrap_or(DiscoveryFormat::Legacy)
}

/// What bodies of objects may be.
const OBJECT_TYPES: [&str; 3] =
    ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
/// A manifest for the three-way apply, in which `kubectl apply` needs a request to read first. Our own.
pub(crate) const THREE_WAY_TYPE: &str = "application/vnd.orchestrator.apply+yaml";
/// What bodies of patches may be.
const PATCH_TYPES: [&str; 5] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    THREE_WAY_TYPE,
];

/// Reads the form of an object's body; JSON when none is said.
///
/// # Errors
/// 415 with what is read here.
pub(crate) fn object_body(content_type: Option<&str>) -> Result<BodyFormat, Failure> {
    let media_type = media_type(content_type);
    match media_type.as_str() {
        // Python and kubectl leave the type out in places.
        "" | "application/json" | "*/*" => Ok(BodyFormat::Json),
        "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(BodyFormat::Yaml),
        other => Err(Failure::unsupported_media_type(other, &OBJECT_TYPES)),
    }
}

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchFormat {
    /// Server-side apply.
    Apply,
    Json,
    Merge,
    Strategic,
    /// A whole manifest, merged three ways with the one applied last.
    ThreeWay,
}

/// Reads how a patch is meant.
///
/// # Errors
/// 415 with what is read here.
pub(crate) fn patch_body(content_type: Option<&str>) -> Result<PatchFormat, Failure> {
    let media_type = media_type(content_type);
    match media_type.as_str() {
        "application/apply-patch+yaml" => Ok(PatchFormat::Apply),
        "application/json-patch+json" => Ok(PatchFormat::Json),
        "application/merge-patch+json" => Ok(PatchFormat::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchFormat::Strategic),
        THREE_WAY_TYPE => Ok(PatchFormat::ThreeWay),
        other => Err(Failure::unsupported_media_type(other, &PATCH_TYPES)),
    }
}

fn media_type(content_type: Option<&str>) -> String {
    Range::parse(content_type.unwrap_or_default()).media_type.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_served_is_chosen() {
        let check =
            |accept: &str, format| assert_eq!(objects(Some(accept)).ok(), format, "{accept}");
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(Format::Table));
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some(Format::Json),
        );
        check("application/vnd.kubernetes.protobuf,application/json", Some(Format::Json));
        check(
            "application/json;profile=nopeer;as=Table;v=v1;g=meta.k8s.io, */*",
            Some(Format::Json),
        );
        check("application/vnd.kubernetes.protobuf, */*", Some(Format::Json));
        check("", Some(Format::Json));
        check("application/vnd.kubernetes.protobuf", None);
        check("application/json;as=Table;v=v9;g=meta.k8s.io", None);
    }

    #[test]
    fn discovery_is_aggregated_only_when_asked_for() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(Some(kubectl)), DiscoveryFormat::Aggregated("v2"));
        assert_eq!(discovery(None), DiscoveryFormat::Legacy);
    }

    #[test]
    fn a_body_of_another_type_is_415_and_says_what_would_do() {
        assert_eq!(object_body(Some("application/json; charset=utf-8")), Ok(BodyFormat::Json));
        assert_eq!(object_body(None), Ok(BodyFormat::Json));
        let failure = patch_body(Some("application/cbor")).expect_err("not read here");
        assert_eq!(failure.code.as_u16(), 415);
        assert!(failure.message.contains("application/merge-patch+json"));
    }
}
