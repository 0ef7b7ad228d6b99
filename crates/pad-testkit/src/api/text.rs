//! Syntax as readers write it.

use quote::ToTokens;

/// Tokens with the usual spaces.
pub(super) fn text(tokens: &impl ToTokens) -> String {
    let mut out = tokens.to_token_stream().to_string().replace('\n', " ");
    for (found, wanted) in [
        (" ,", ","),
        (" ;", ";"),
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" :", ":"),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
        ("& ", "&"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (",)", ")"),
        (",>", ">"),
    ] {
        out = out.replace(found, wanted);
    }
    // A call or a closure's bound, not a tuple after an arrow or a comma.
    for name in ["Fn", "FnMut", "FnOnce", "fn"] {
        out = out.replace(&format!("{name} ("), &format!("{name}("));
    }
    out
}

/// `fn` with its path in place of its name.
pub(super) fn signature(signature: &syn::Signature, path: &str) -> String {
    let mut signature = signature.clone();
    // Whether a function changes its own copy of an argument is not part of its interface.
    for input in &mut signature.inputs {
        match input {
            syn::FnArg::Typed(argument) => {
                argument.attrs.clear();
                if let syn::Pat::Ident(name) = &mut *argument.pat {
                    name.mutability = None;
                }
            }
            syn::FnArg::Receiver(own) if own.reference.is_none() => own.mutability = None,
            syn::FnArg::Receiver(_) => {}
        }
    }
    let name = signature.ident.to_string();
    let line = text(&signature).replacen(&format!("fn {name} ("), &format!("fn {name}("), 1);
    line.replacen(&format!("fn {name}"), &format!("fn {path}"), 1)
        .replace("> (", ">(")
        .replace("->(", "-> (")
}
