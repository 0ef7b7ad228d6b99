//! XML files of labels: their text, and values of elements.

use std::{borrow::Cow, path::Path};

use roxmltree::{Document, Node, ParsingOptions};

use crate::{Error, Result, sets::text::read_xml};

/// Maximum number of attributes of an element: their names are compared with each other.
const ATTRIBUTES: usize = 256;

/// Maximum number of declarations of name spaces in a file: elements inherit them.
const NAME_SPACES: usize = 64;

/// Maximum number of nodes of a file.
const NODES: u32 = 50_000_000;

/// Reads an XML file of at most `limit` bytes and gives its document to `read`. `kind` says what is
/// expected.
///
/// # Errors
/// As [`read_xml`]; [`Error::Entry`] for what is not such a file.
pub(super) fn with_document<T>(
    path: &Path,
    limit: u64,
    kind: &str,
    read: impl FnOnce(&Document<'_>) -> Result<T>,
) -> Result<T> {
    let text = read_xml(path, limit)?;
    let fault =
        |what: String| Error::Entry { path: path.into(), what: format!("expected {kind}: {what}") };
    check(&text).map_err(fault)?;
    let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES, ..Default::default() };
    let document =
        Document::parse_with_options(&text, options).map_err(|error| fault(error.to_string()))?;
    read(&document)
}

/// Checks what would take the parser long. Errors are texts.
fn check(text: &str) -> std::result::Result<(), String> {
    if text.contains("<!ENTITY") {
        return Err("entities are not read".into());
    }
    if text.matches("xmlns").take(NAME_SPACES + 1).count() > NAME_SPACES {
        return Err(format!("more than {NAME_SPACES} declarations of name spaces"));
    }
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let skipped = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        if let Some((_, end)) = skipped.into_iter().find(|(start, _)| rest.starts_with(start)) {
            rest = rest.find(end).map_or("", |place| &rest[place + end.len()..]);
            continue;
        }
        let (mut quote, mut attributes, mut end) = (None, 0, rest.len());
        for (place, byte) in rest.bytes().enumerate().skip(1) {
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                (None, b'=') => attributes += 1,
                (None, b'>') => {
                    end = place;
                    break;
                }
                _ => {}
            }
        }
        if attributes > ATTRIBUTES {
            return Err(format!(
                "an element of {attributes} attributes, the limit is {ATTRIBUTES}"
            ));
        }
        rest = &rest[end..];
    }
    Ok(())
}

/// The first element of this name directly inside `node`, whatever its name space. Errors are texts.
pub(super) fn child<'a, 'input>(
    node: Node<'a, 'input>,
    name: &str,
) -> std::result::Result<Node<'a, 'input>, String> {
    children(node, name).next().ok_or_else(|| format!("expected an element `{name}`, found none"))
}

/// The elements of this name directly inside `node`, whatever their name space.
pub(super) fn children<'a, 'input>(
    node: Node<'a, 'input>,
    name: &str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The text of an element: all that stands directly inside it, around comments too.
pub(super) fn content<'a>(node: Node<'a, '_>) -> Cow<'a, str> {
    let mut texts = node.children().filter(Node::is_text).filter_map(|part| part.text());
    let first = texts.next().unwrap_or_default();
    texts.fold(Cow::Borrowed(first), |text, part| text + part)
}

/// The text of the first element of this name; `None` without it.
pub(super) fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<Cow<'a, str>> {
    Some(content(child(node, name).ok()?))
}

/// The number in an element. Errors are texts.
pub(super) fn number(node: Node<'_, '_>, name: &str) -> std::result::Result<f64, String> {
    parsed(name, content(child(node, name)?).trim())
}

/// The number in an attribute. Errors are texts.
pub(super) fn attribute(node: Node<'_, '_>, name: &str) -> std::result::Result<f64, String> {
    let text = node
        .attribute(name)
        .ok_or_else(|| format!("expected an attribute `{name}`, found none"))?;
    parsed(name, text.trim())
}

fn parsed(name: &str, text: &str) -> std::result::Result<f64, String> {
    let shown = || text.chars().take(60).collect::<String>().escape_debug().to_string();
    text.parse().map_err(|_| format!("`{name}`: expected a number, found `{}`", shown()))
}

/// Whether an element or attribute says yes.
pub(super) fn is_yes(text: Option<&str>) -> bool {
    text.is_some_and(|text| {
        matches!(text.trim().to_lowercase().as_str(), "1" | "true" | "yes" | "1.0")
    })
}

/// Whether a flag says yes; an error for a text that says neither. Errors are texts.
pub(super) fn flag(name: &str, text: Option<&str>) -> Result<bool, String> {
    match text.map(|text| text.trim().to_lowercase()).unwrap_or_default().as_str() {
        "" | "0" | "0.0" | "false" | "no" | "unspecified" => Ok(false),
        text if is_yes(Some(text)) => Ok(true),
        other => match other.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number != 0.0),
            _ => Err(format!("`{name}`: expected 0 or 1, found `{}`", other.escape_debug())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_take_long_are_refused() {
        let many = |count: usize| -> String {
            let all: String = (0..count).map(|i| format!(" a{i}='<>='")).collect();
            format!("<!-- a=b --><r x=\"a=b>c\"><e{all}/></r>")
        };
        assert_eq!(check(&many(ATTRIBUTES)), Ok(()));
        assert_eq!(
            check(&many(60_000)).unwrap_err(),
            "an element of 60000 attributes, the limit is 256"
        );
        let spaces: String = (0..100).map(|i| format!("<a xmlns:n{i}=''>")).collect();
        assert!(check(&spaces).unwrap_err().contains("name spaces"));
        assert!(check("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>").is_err());
        assert_eq!(check("<a"), Ok(()));
        assert_eq!(check("<!-- <a"), Ok(()));
    }
    #[test]
    fn a_text_goes_on_behind_a_comment() {
        let of = |xml: &str| {
            let document = Document::parse(xml).unwrap();
            let root = document.root_element();
            (content(root).into_owned(), number(root, "n").ok())
        };
        assert_eq!(of("<a>p</a>"), ("p".into(), None));
        assert_eq!(of("<a><!-- x -->p</a>").0, "p");
        assert_eq!(of("<a>p<!-- x -->q<?r s?>t<b>u</b></a>").0, "pqt");
        assert_eq!(of("<a>p<![CDATA[<q>]]></a>").0, "p<q>");
        assert_eq!(of("<a><n> 1<!-- 2 -->3.5 </n></a>").1, Some(13.5));
        assert_eq!(of("<a/>"), (String::new(), None));
    }
}
