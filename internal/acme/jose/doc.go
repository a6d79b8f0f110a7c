// Package jose reads the JSON Web Signatures of ACME (RFC 8555 section 6.2): the flattened JSON serialization and
// nothing else. It owns the question "who signed what?", for requests, for external account bindings and for the
// inner half of key changes, and no other package parses JWS.
//
// It must never fetch a key that a header points to, use a key that goodkey refuses, or take an algorithm from the
// message that the key does not fix: each key has one algorithm. It trusts nothing; every byte comes from an attacker.
//
// JSON is read by a scanner of our own, because encoding/json is lenient where two readers could differ: it
// takes the last of two members of one name, compares names without regard to case and replaces invalid UTF-8. What the
// scanner refuses is refused as a whole, so that no two parts of a server see two messages.
package jose
