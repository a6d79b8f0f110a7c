// Package store keeps everything that must survive a restart, in SQLite or PostgreSQL behind one type. It is the only
// package that speaks SQL. The middle layers declare the interfaces that they need; Store implements them.
//
// A method is one transaction: one change of state and its audit event, or nothing. A method that writes returns
// only after its transaction is durable; when the outcome of a commit is not known it returns an error, and the
// same call made again finds what became of it. Writes that wait at the same time share one transaction (writer.go),
// so that the price of a disk flush is paid once for all of them.
//
// Errors are *fault.Error of kind NotFound, Conflict, Unauthorized, AlreadyRevoked or Unavailable (queue full,
// database down or out of space; trying again may help). Anything else is a broken invariant and wrapped as it is.
// All methods are safe for concurrent use.
//
// It must never decide who may do something, and never see a secret in the clear: keys and HMAC keys arrive sealed,
// passwords and tokens hashed.
package store
