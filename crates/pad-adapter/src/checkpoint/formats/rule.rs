//! The engine: patterns of tensor names, and what becomes of a tensor whose name fits one.

/// What a format's table says of the tensors whose names fit a pattern. In a pattern `*` stands for
/// one segment between dots and a last `**` for all that follow; the new name has as many, filled
/// in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Another name (or the same).
    Name(&'static str, &'static str),
    /// Another name, and leading axes of one until there are three: class tokens and position
    /// tables.
    Token(&'static str, &'static str),
    /// Another name, rows and columns exchanged.
    Transposed(&'static str, &'static str),
    /// Tensors whose rows follow each other in the new one: queries, keys, values; gate and value.
    Join(&'static [&'static str], &'static str),
    /// Left out; with why.
    Drop(&'static str, &'static str),
}

/// Rules whose patterns all begin alike: blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Start of the patterns, with its dot.
    pub(super) from: &'static str,
    /// Start of the new names, with its dot.
    pub(super) to: &'static str,
    /// The rules, the first that fits counts.
    pub(super) rules: &'static [Rule],
}

impl Group {
    /// Rules without a common start.
    pub(super) const fn top(rules: &'static [Rule]) -> Self {
        Self { from: "", to: "", rules }
    }
}

/// Whether a file is of a format, by the names behind the prefix and whether there is a prefix.
pub(super) type Test = fn(&dyn Fn(&str) -> bool, bool) -> bool;

/// For formats whose marks are enough.
pub(super) const NO_TEST: Test = |_, _| true;

/// A format: how it is detected, and its rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Names that must be there, behind the prefix.
    pub(super) marks: &'static [&'static str],
    /// Names of which one must be there, unless the list is empty or a prefix is there: they tell
    /// the format from its relatives.
    pub(super) evidence: &'static [&'static str],
    /// What else tells the format from its relatives, given whether a name is there.
    pub(super) test: Test,
    /// Prefixes that every name of the backbone may have.
    pub(super) prefixes: &'static [&'static str],
    /// Rules for the names without the prefix where others have it; the same as for all if `None`.
    pub(super) outside: Option<&'static [Group]>,
    /// Rules, the first that fits counts.
    pub(super) groups: &'static [Group],
}

/// What becomes of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Name(String),
    Token(String),
    Transposed(String),
    /// Which part of the new tensor, and the names of all parts.
    Part(String, usize, Vec<String>),
    Dropped(&'static str),
}

/// What the first rule in `groups` that fits says of `name`.
pub(super) fn fate(groups: &[Group], name: &str) -> Option<Fate> {
    for group in groups {
        for rule in group.rules {
            let fit = |pattern: &str| captures(&format!("{}{pattern}", group.from), name);
            let to = |to: &str, parts: &[String]| fill(&format!("{}{to}", group.to), parts);
            let found = match *rule {
                Rule::Name(from, new) => fit(from).map(|parts| Fate::Name(to(new, &parts))),
                Rule::Token(from, new) => fit(from).map(|parts| Fate::Token(to(new, &parts))),
                Rule::Transposed(from, new) => {
                    fit(from).map(|parts| Fate::Transposed(to(new, &parts)))
                }
                Rule::Drop(from, why) => fit(from).map(|_| Fate::Dropped(why)),
                Rule::Join(sources, new) => {
                    sources.iter().enumerate().find_map(|(part, source)| {
                        let parts = fit(source)?;
                        let whole =
                            |source: &&str| fill(&format!("{}{source}", group.from), &parts);
                        let all = sources.iter().map(whole).collect();
                        Some(Fate::Part(to(new, &parts), part, all))
                    })
                }
            };
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// What the stars of `pattern` stand for in `name`; `None` if it does not fit.
pub(super) fn captures(pattern: &str, name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = Some(name);
    for piece in pattern.split('.') {
        let text = rest?;
        if piece == "**" {
            parts.push(text.to_string());
            return Some(parts);
        }
        let (segment, after) = match text.split_once('.') {
            Some((segment, after)) => (segment, Some(after)),
            None => (text, None),
        };
        if piece == "*" {
            parts.push(segment.to_string());
        } else if piece != segment {
            return None;
        }
        rest = after;
    }
    rest.is_none().then_some(parts)
}

/// `pattern` with its stars filled in order.
pub(super) fn fill(pattern: &str, parts: &[String]) -> String {
    let mut parts = parts.iter();
    let segments = pattern.split('.').map(|piece| match piece {
        "*" | "**" => parts.next().map_or("", String::as_str),
        piece => piece,
    });
    segments.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let fit = |pattern: &str, name: &str| captures(pattern, name).map(|parts| parts.join("|"));
        assert_eq!(fit("a.*.b.*", "a.3.b.weight").as_deref(), Some("3|weight"));
        assert_eq!(fit("a.**", "a.b.c").as_deref(), Some("b.c"));
        assert_eq!(fit("a", "a").as_deref(), Some(""));
        for (pattern, name) in [("a.*", "a"), ("a.**", "a"), ("a", "a.b"), ("a.*", "a.b.c")] {
            assert_eq!(fit(pattern, name), None, "{pattern} {name}");
        }
    }

    #[test]
    fn fates() {
        let rules = &[
            Rule::Join(&["q.*", "k.*", "v.*"], "qkv.*"),
            Rule::Name("norm1.*", "n.*"),
            Rule::Drop("x", "never read"),
        ];
        let groups = [Group { from: "layer.*.", to: "blocks.*.", rules }];
        let name = |text: &str| text.to_string();
        assert_eq!(fate(&groups, "layer.4.norm1.bias"), Some(Fate::Name(name("blocks.4.n.bias"))));
        let all = ["q", "k", "v"].map(|part| format!("layer.4.{part}.bias")).to_vec();
        assert_eq!(
            fate(&groups, "layer.4.v.bias"),
            Some(Fate::Part(name("blocks.4.qkv.bias"), 2, all))
        );
        assert_eq!(fate(&groups, "layer.4.x"), Some(Fate::Dropped("never read")));
        assert_eq!(fate(&groups, "layer.4.y"), None);
    }
}
