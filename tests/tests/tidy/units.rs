//! Every public number says what it counts or measures, in its name or in its documentation.

use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ExprLit, Fields, File, FnArg, ImplItem, Item, ItemMod, Lit, Meta, Pat, Type,
    Visibility,
};

use super::{attributes, crate_folder, crate_names, files_below, is_for_tests, parsed, shown};

/// Words that name a unit, a count, an index, or a quantity without a unit. A word ends in `s` or
/// not.
const UNITS: [&str; 119] = [
    // Time.
    "second",
    "millisecond",
    "microsecond",
    "minute",
    "hour",
    "ms",
    "us",
    "micros",
    "tick",
    "time",
    "25th",
    "fps",
    "hz",
    // Space and pictures.
    "meter",
    "m",
    "mm",
    "pixel",
    "px",
    "radian",
    "degree",
    "cell",
    "texel",
    "row",
    "column",
    "coordinate",
    "side",
    "space",
    "focal",
    // Data and rates.
    "byte",
    "bit",
    "bps",
    "kbps",
    "kbit",
    "mib",
    "kib",
    "mb",
    "db",
    "decibel",
    "flop",
    "operation",
    "flops",
    "gflop",
    // Counts of things of this product.
    "frame",
    "feature",
    "unit",
    "packet",
    "sample",
    "level",
    "layer",
    "component",
    "dim",
    "dimension",
    "channel",
    "landmark",
    "point",
    "vertex",
    "vertices",
    "triangle",
    "number",
    "count",
    "n",
    "len",
    "length",
    "step",
    "epoch",
    "iteration",
    "ray",
    "parameter",
    "value",
    "word",
    "line",
    "color",
    "gray",
    "channels",
    "inputs",
    "outputs",
    "hidden",
    "coefficient",
    "octave",
    "width",
    "height",
    "size",
    "entry",
    "times",
    "round",
    "event",
    "class",
    // Indexes, names, states.
    "index",
    "idx",
    "id",
    "version",
    "seed",
    "offset",
    "hash",
    "port",
    "bin",
    "mask",
    "bits",
    // Without a unit.
    "share",
    "fraction",
    "ratio",
    "factor",
    "weight",
    "probability",
    "unitless",
    "score",
    "scale",
    "percent",
    "per",
    "1/m",
    "0..=1",
    "0..1",
    "1..=1",
    "deviation",
    "sigma",
    "density",
    "opacity",
    "slope",
    "code",
];

#[test]
fn public_numbers_say_their_unit() {
    let mut silent = Vec::new();
    for name in crate_names() {
        for file in files_below(&crate_folder(&name).join("src"), "rs") {
            if file.components().any(|part| part.as_os_str() == "bin") {
                continue;
            }
            let mut numbers = Numbers { silent: Vec::new() };
            numbers.visit_file(&parsed(&file));
            silent.extend(numbers.silent.iter().map(|item| format!("{}: {item}", shown(&file))));
        }
    }
    assert!(silent.is_empty(), "{} numbers without a unit:\n{}", silent.len(), silent.join("\n"));
}

/// Whether a name or a documentation mentions a unit.
fn mentions_a_unit(text: &str) -> bool {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !(c.is_alphanumeric() || "./=-".contains(c)));
    let words = words.map(|word| word.trim_matches(|c| ".-=/".contains(c)));
    words.flat_map(|word| [word, word.trim_end_matches('s')]).any(|word| UNITS.contains(&word))
}

/// The documentation of an item.
fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("doc").then(|| text.value())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a type is a number or a group of numbers.
fn is_number(r#type: &Type) -> bool {
    match r#type {
        Type::Array(array) => is_number(&array.elem),
        Type::Slice(slice) => is_number(&slice.elem),
        Type::Reference(reference) => is_number(&reference.elem),
        Type::Tuple(tuple) => !tuple.elems.is_empty() && tuple.elems.iter().all(is_number),
        Type::Path(path) => path.path.get_ident().is_some_and(|name| {
            let name = name.to_string();
            let bits = name.trim_start_matches(['f', 'i', 'u']);
            name.len() == bits.len() + 1 && ["16", "32", "64", "128", "size"].contains(&bits)
        }),
        _ => false,
    }
}

/// Collects the public constants, fields and float parameters of a file that mention no unit.
struct Numbers {
    silent: Vec<String>,
}

impl Numbers {
    fn check(&mut self, name: &str, texts: &[&str]) {
        let name_in_words = name.replace('_', " ");
        if !mentions_a_unit(&name_in_words) && !texts.iter().any(|text| mentions_a_unit(text)) {
            self.silent.push(name.to_owned());
        }
    }

    fn check_signature(&mut self, attributes: &[Attribute], signature: &syn::Signature) {
        let documentation = documentation(attributes);
        for input in &signature.inputs {
            let FnArg::Typed(input) = input else { continue };
            let Pat::Ident(name) = &*input.pat else { continue };
            if is_number(&input.ty) {
                let name = name.ident.to_string();
                let texts = [documentation.as_str(), &name.replace('_', " ")];
                self.check(&format!("{}({name})", signature.ident), &texts);
            }
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

impl Visit<'_> for Numbers {
    fn visit_item(&mut self, item: &Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Const(item) if is_public(&item.vis) && is_number(&item.ty) => {
                self.check(&item.ident.to_string(), &[&documentation(&item.attrs)]);
            }
            Item::Fn(item) if is_public(&item.vis) => self.check_signature(&item.attrs, &item.sig),
            Item::Struct(item) if is_public(&item.vis) => {
                let about_all = documentation(&item.attrs);
                if let Fields::Named(fields) = &item.fields {
                    for field in
                        fields.named.iter().filter(|f| is_public(&f.vis) && is_number(&f.ty))
                    {
                        let name = field.ident.as_ref().expect("a named field").to_string();
                        let owner = item.ident.to_string();
                        let texts =
                            [&documentation(&field.attrs), &about_all, &name.replace('_', " ")];
                        self.check(&format!("{owner}.{name}"), &texts.map(String::as_str));
                    }
                }
            }
            Item::Impl(item) if item.trait_.is_none() => {
                for item in &item.items {
                    match item {
                        ImplItem::Fn(item) if is_public(&item.vis) => {
                            self.check_signature(&item.attrs, &item.sig);
                        }
                        ImplItem::Const(item) if is_public(&item.vis) && is_number(&item.ty) => {
                            self.check(&item.ident.to_string(), &[&documentation(&item.attrs)]);
                        }
                        _ => {}
                    }
                }
            }
            Item::Mod(item) => visit::visit_item_mod(self, item),
            _ => {}
        }
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        visit::visit_item_mod(self, item);
    }

    fn visit_file(&mut self, file: &File) {
        file.items.iter().for_each(|item| self.visit_item(item));
    }
}

#[test]
fn a_number_without_a_unit_is_found() {
    let file = "/// How big.\npub const HOW_BIG: u32 = 1;\n/// In meters.\npub const FAR: f32 = 2.0;\n\
                pub struct S { /// Pixels.\n pub a: u32, /// What.\n pub b: [f32; 3] }";
    let mut numbers = Numbers { silent: Vec::new() };
    numbers.visit_file(&syn::parse_file(file).unwrap());
    assert_eq!(numbers.silent, ["HOW_BIG", "S.b"]);
}
