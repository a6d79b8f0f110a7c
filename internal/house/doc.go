// Package house holds the rules of this repository that linters cannot check, as tests; it has no code of its own and
// nothing imports it.
//
// The rules: the sizes of files; a comment on every package; no package variable that something changes; no error
// matched by its text; no open end without an issue; a corpus for every fuzz target; the same migrations for both
// databases; every metric in the reference and the reverse; links and commands in documents that work; an agent that
// cannot link CA code. CONTRIBUTING.md says why each exists. A test here reads files only and never changes the tree.
package house
