// Package testbed runs real programs for the end-to-end tests: etcd, a Kubernetes API server, cert-manager's
// controllers and certloom itself, as plain processes on loopback.
//
// Everything that it starts ends with the test: each process leads a process group of its own that is killed at the
// end, and the kernel kills it when the test's process dies in any other way. Folders are removed, and those of a run
// that was killed are swept up by the next. What a process wrote is shown when a test fails.
package testbed
