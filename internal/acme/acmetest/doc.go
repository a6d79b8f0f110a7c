// Package acmetest starts complete ACME servers for tests: real storage in a folder of the test, a root and an issuing
// CA, the profiles of `certloom dev`, a credential for each, and a clock that the test owns. It has a client that signs
// what it is told to, right or wrong.
//
// It must never be imported by the product.
package acmetest
