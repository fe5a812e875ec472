//! No two files of a crate import each other, directly or through other files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{File, Item, ItemMod, ItemUse, UseTree};

use super::{attributes, crate_folder, crate_names, files_below, is_for_tests, parsed, shown};

/// A module path below the crate's root; the root itself is empty.
type Module = Vec<String>;

/// Files of a crate by module, and the modules that each of them imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for name in crate_names() {
        let src = crate_folder(&name).join("src");
        let bins = src.join("bin");
        let mut folders = vec![src.clone()];
        if bins.exists() {
            folders.extend(super::entries(&bins).into_iter().filter(|path| path.is_dir()));
        }
        for folder in folders {
            let mut files = files_below(&folder, "rs");
            if folder == src {
                files.retain(|file| !file.starts_with(&bins));
            }
            if let Some(circle) = circle(&imports(&folder, &files)) {
                circles.push(format!("{}: {circle}", shown(&folder)));
            }
        }
    }
    assert!(circles.is_empty(), "import circles:\n{}", circles.join("\n"));
}

/// The module that a file is.
fn module(folder: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(folder).unwrap().with_extension("");
    let mut segments: Module =
        path.iter().map(|segment| segment.to_string_lossy().into_owned()).collect();
    if matches!(segments.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        segments.pop();
    }
    segments
}

fn imports(folder: &Path, files: &[PathBuf]) -> Imports {
    let trees: BTreeMap<Module, File> =
        files.iter().map(|file| (module(folder, file), parsed(file))).collect();
    let reexports = trees.get(&Vec::new()).map(reexports).unwrap_or_default();
    let mut imports = Imports::new();
    for (module, tree) in &trees {
        let mut paths = Paths { module: module.clone(), found: Vec::new() };
        paths.visit_file(tree);
        let targets = paths.found.iter().filter_map(|path| {
            let target = (0..=path.len())
                .rev()
                .map(|n| path[..n].to_vec())
                .find(|start| trees.contains_key(start))?;
            // An item of the crate's root lives in the module that the root takes it from.
            if target.is_empty() {
                path.first().and_then(|name| reexports.get(name)).cloned()
            } else {
                Some(target)
            }
        });
        let targets: BTreeSet<Module> = targets.filter(|target| target != module).collect();
        if !module.is_empty() {
            imports.insert(module.clone(), targets);
        }
    }
    imports
}

/// Names that the crate's root takes from its modules, and the module of each.
fn reexports(root: &File) -> BTreeMap<String, Module> {
    let mut names = BTreeMap::new();
    for item in &root.items {
        let Item::Use(ItemUse { tree, .. }) = item else { continue };
        for mut path in leaves(tree) {
            path.retain(|segment| segment != "self" && segment != "crate");
            if let Some(name) = path.pop() {
                names.insert(name, path);
            }
        }
    }
    names
}

/// The paths that a `use` imports.
fn leaves(tree: &UseTree) -> Vec<Vec<String>> {
    match tree {
        UseTree::Path(path) => leaves(&path.tree)
            .into_iter()
            .map(|tail| [vec![path.ident.to_string()], tail].concat())
            .collect(),
        UseTree::Name(name) => vec![vec![name.ident.to_string()]],
        UseTree::Rename(rename) => vec![vec![rename.ident.to_string()]],
        UseTree::Glob(_) => vec![Vec::new()],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Collects the paths that begin with `crate` or `super`, outside tests, as paths below the root.
struct Paths {
    module: Module,
    found: Vec<Vec<String>>,
}

impl Paths {
    fn add(&mut self, segments: &[String]) {
        match segments.first().map(String::as_str) {
            Some("crate") => self.found.push(segments[1..].to_vec()),
            Some("super") => {
                let n_up = segments.iter().take_while(|segment| *segment == "super").count();
                let n_kept = self.module.len().saturating_sub(n_up);
                self.found.push([&self.module[..n_kept], &segments[n_up..]].concat());
            }
            _ => {}
        }
    }
}

impl Visit<'_> for Paths {
    fn visit_item(&mut self, item: &Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            for item in items {
                self.visit_item(item);
            }
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        for path in leaves(&item.tree) {
            self.add(&path);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }
}

/// A circle of imports, if there is one.
fn circle(imports: &Imports) -> Option<String> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| follow(start, imports, &mut Vec::new(), &mut done))
}

fn follow<'a>(
    module: &'a Module,
    imports: &'a Imports,
    path: &mut Vec<&'a Module>,
    done: &mut BTreeSet<&'a Module>,
) -> Option<String> {
    if let Some(at) = path.iter().position(|before| *before == module) {
        path.push(module);
        let names: Vec<String> = path[at..].iter().map(|module| module.join("::")).collect();
        return Some(names.join(" -> "));
    }
    if done.contains(module) {
        return None;
    }
    path.push(module);
    let targets = imports.get(module).into_iter().flatten();
    let found = targets
        .filter(|t| imports.contains_key(*t))
        .find_map(|target| follow(target, imports, path, done));
    path.pop();
    done.insert(module);
    found
}

#[test]
fn a_circle_through_a_third_file_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let arrows = |arrows: &[(&str, &str)]| -> Imports {
        arrows.iter().map(|(from, to)| (module(from), BTreeSet::from([module(to)]))).collect()
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "d")])), None);
    let found = circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "b")]));
    assert_eq!(found.as_deref(), Some("b -> c -> b"));
}
