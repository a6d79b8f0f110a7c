// Package pki is Certloom's vocabulary: identifiers, names, states and the records that every other package
// speaks of. It holds values only and imports the standard library only.
//
// It must never decide (that is policy), sign (issue, revoke) or store (store). It trusts nothing: whatever is
// parsed here (names, serials, CSRs) may come from an attacker, and a value that a constructor returned is
// well-formed, not permitted.
package pki
