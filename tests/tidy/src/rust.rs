//! What one Rust file says: its functions, its definitions, the modules it names. Knows no rule.

use std::ops::RangeInclusive;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tree::SourceFile;

/// A parsed file without its `#[cfg(test)]` parts.
pub struct Parsed {
    file: syn::File,
    tests: Vec<RangeInclusive<usize>>,
}

/// A named thing and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// First line, from 1.
    pub line: usize,
    /// How many lines it takes, attributes and comments above it not counted.
    pub lines: usize,
}

impl Parsed {
    /// Parses a file.
    ///
    /// # Panics
    /// If it does not parse: the compiler says so better.
    pub fn new(source: &SourceFile) -> Self {
        let mut file = syn::parse_file(&source.text).unwrap_or_else(|e| panic!("{}: {e}", source.path));
        let mut tests = Vec::new();
        file.items.retain(|item| {
            let test = attributes(item).iter().any(is_cfg_test);
            if test {
                tests.push(item.span().start().line..=item.span().end().line);
            }
            !test
        });
        Self { file, tests }
    }

    /// How many lines belong to tests.
    pub fn test_lines(&self) -> usize {
        self.tests.iter().map(|lines| lines.end() - lines.start() + 1).sum()
    }

    /// Whether this line belongs to a test.
    pub fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// Every function with a body.
    pub fn functions(&self) -> Vec<Item> {
        let mut finder = Functions(Vec::new());
        finder.visit_file(&self.file);
        finder.0
    }

    /// Every type, trait and module that the file defines.
    pub fn definitions(&self) -> Vec<Item> {
        let mut finder = Definitions(Vec::new());
        finder.visit_file(&self.file);
        finder.0
    }

    /// Paths that begin with `crate` or `super`, as far as they are written out: each as its segments.
    pub fn inner_paths(&self) -> Vec<Vec<String>> {
        let mut finder = Paths(Vec::new());
        finder.visit_file(&self.file);
        finder.0.retain(|path| matches!(path[0].as_str(), "crate" | "super"));
        finder.0
    }

    /// What the file passes on from its own modules: `pub use module::Name` as (`Name`, `module`).
    pub fn passed_on(&self) -> Vec<(String, String)> {
        let uses = self.file.items.iter().filter_map(|item| match item {
            syn::Item::Use(item) => Some(&item.tree),
            _ => None,
        });
        let mut paths = Vec::new();
        uses.for_each(|tree| flatten(tree, &mut Vec::new(), &mut paths));
        paths
            .into_iter()
            .map(|path| path.into_iter().filter(|part| part != "crate" && part != "self").collect::<Vec<_>>())
            .filter(|path| path.len() > 1)
            .map(|path| (path[path.len() - 1].clone(), path[0].clone()))
            .collect()
    }
}

/// Where the word is called, `word(…)`: the line (from 1) and the arguments as text.
///
/// # Panics
/// If the text is no Rust: the compiler says so better.
pub fn calls(source: &SourceFile, word: &str) -> Vec<(usize, String)> {
    let mut arguments = Vec::new();
    let lines = find(source, &mut |tokens, at| {
        let (TokenTree::Ident(ident), Some(TokenTree::Group(group))) = (&tokens[at], tokens.get(at + 1))
        else {
            return false;
        };
        let called = ident == word && group.delimiter() == proc_macro2::Delimiter::Parenthesis;
        if called {
            arguments.push((ident.span().start().line, group.stream().to_string()));
        }
        called
    });
    arguments.sort();
    debug_assert_eq!(lines.len(), arguments.len());
    arguments
}

/// Lines (from 1) on which the word stands as a word of code.
///
/// # Panics
/// If the text is no Rust: the compiler says so better.
pub fn words(source: &SourceFile, word: &str) -> Vec<usize> {
    find(source, &mut |tokens, at| matches!(&tokens[at], TokenTree::Ident(ident) if ident == word))
}

fn find(source: &SourceFile, wanted: &mut dyn FnMut(&[TokenTree], usize) -> bool) -> Vec<usize> {
    let stream: TokenStream = source.text.parse().unwrap_or_else(|e| panic!("{}: {e}", source.path));
    let mut lines = Vec::new();
    let mut streams = vec![stream];
    while let Some(stream) = streams.pop() {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            if wanted(&tokens, at) {
                lines.push(token.span().start().line);
            }
            if let TokenTree::Group(group) = token {
                streams.push(group.stream());
            }
        }
    }
    lines.sort_unstable();
    lines
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string() == "test"
}

fn line_count(item: &impl Spanned) -> usize {
    let span = item.span();
    span.end().line - span.start().line + 1
}

struct Functions(Vec<Item>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.span().start().line;
        let lines = block.span().end().line - line + 1;
        self.0.push(Item { name: signature.ident.to_string(), line, lines });
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

struct Definitions(Vec<Item>);

impl Definitions {
    fn note(&mut self, ident: &syn::Ident, item: &impl Spanned) {
        self.0.push(Item {
            name: ident.to_string(),
            line: ident.span().start().line,
            lines: line_count(item),
        });
    }
}

impl<'a> Visit<'a> for Definitions {
    fn visit_item(&mut self, item: &'a syn::Item) {
        match item {
            syn::Item::Struct(i) => self.note(&i.ident, i),
            syn::Item::Enum(i) => self.note(&i.ident, i),
            syn::Item::Trait(i) => self.note(&i.ident, i),
            syn::Item::Type(i) => self.note(&i.ident, i),
            syn::Item::Mod(i) => self.note(&i.ident, i),
            _ => {}
        }
        visit::visit_item(self, item);
    }
}

struct Paths(Vec<Vec<String>>);

impl<'a> Visit<'a> for Paths {
    fn visit_path(&mut self, path: &'a syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        flatten(&item.tree, &mut Vec::new(), &mut self.0);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        paths_in(call.tokens.clone(), &mut self.0);
        visit::visit_macro(self, call);
    }
}

fn flatten(tree: &syn::UseTree, above: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    match tree {
        syn::UseTree::Path(path) => {
            above.push(path.ident.to_string());
            flatten(&path.tree, above, out);
            above.pop();
        }
        syn::UseTree::Name(name) => out.push(joined(above, name.ident.to_string())),
        syn::UseTree::Rename(name) => out.push(joined(above, name.ident.to_string())),
        syn::UseTree::Glob(_) => out.push(joined(above, "*".into())),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, above, out)),
    }
}

fn joined(above: &[String], last: String) -> Vec<String> {
    above.iter().cloned().chain([last]).collect()
}

/// Inside a macro there is no syntax, only words: `crate :: a :: b` is a path all the same.
fn paths_in(stream: TokenStream, out: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in stream {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                colons += 1;
                continue;
            }
            TokenTree::Ident(ident) if path.is_empty() || colons == 2 => path.push(ident.to_string()),
            TokenTree::Ident(ident) => {
                out.push(std::mem::replace(&mut path, vec![ident.to_string()]));
            }
            TokenTree::Group(group) => {
                paths_in(group.stream(), out);
                flush(&mut path, out);
            }
            _ => flush(&mut path, out),
        }
        colons = 0;
    }
    flush(&mut path, out);
}

fn flush(path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    if !path.is_empty() {
        out.push(std::mem::take(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceFile {
        SourceFile { path: "x.rs".into(), text: text.into() }
    }

    #[test]
    fn functions_are_counted_without_tests() {
        let file = source(
            "fn a() {\n\n}\nimpl X {\n  /// Doc.\n  fn b() {}\n}\n#[cfg(test)]\nmod tests {\n fn c() {}\n}\n",
        );
        let parsed = Parsed::new(&file);
        let found: Vec<_> = parsed.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("a".to_owned(), 1, 3), ("b".to_owned(), 6, 1)]);
        assert_eq!(parsed.test_lines(), 4);
        assert!(parsed.is_test(10) && !parsed.is_test(6));
    }

    #[test]
    fn paths_are_found_in_uses_code_and_macros() {
        let parsed =
            Parsed::new(&source("use crate::{a::B, c};\nfn f() { super::d(); say!(\"{}\", crate::e::F); }"));
        let mut found: Vec<_> = parsed.inner_paths().iter().map(|path| path.join("::")).collect();
        found.sort();
        assert_eq!(found, ["crate::a::B", "crate::c", "crate::e::F", "super::d"]);
    }

    #[test]
    fn calls_are_told_from_words_in_comments_and_names() {
        let file = source(
            "// sleep(1)\nfn f() { sleep_until(1);\n t::sleep(2);\n m!(sleep (3)); let s = \"sleep(4)\"; }",
        );
        assert_eq!(calls(&file, "sleep"), [(3, "2".into()), (4, "3".into())]);
    }

    #[test]
    fn what_a_root_passes_on_is_known_by_its_module() {
        let parsed =
            Parsed::new(&source("mod a;\npub use a::{B, c::D};\npub use self::e::F;\nuse std::fmt;"));
        let found = parsed.passed_on();
        for (name, module) in [("B", "a"), ("D", "a"), ("F", "e")] {
            assert!(found.contains(&(name.into(), module.into())), "{name} {found:?}");
        }
    }
}
