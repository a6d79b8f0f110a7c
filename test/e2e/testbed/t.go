package testbed

// T is the part of testing.TB that the bed uses; the benchmark, which is no test, has one of its own.
type T interface {
	Helper()
	Cleanup(func()) // called in reverse order at the end
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any) // does not return
	Fatalf(format string, args ...any)
	Failed() bool
}
