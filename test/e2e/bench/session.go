package main

import (
	"errors"
	"fmt"
	"os"
)

// session is the testbed's T of a program that is no test: it ends what was started, and stops at the first error.
type session struct {
	cleanups []func()
	failure  error
}

// aborted is what Fatal panics with, so that run can end what was started.
type aborted struct{}

// run calls f and then the clean-ups, and returns what went wrong.
func (s *session) run(f func(s *session)) error {
	func() {
		defer func() {
			if p := recover(); p != nil {
				if _, ok := p.(aborted); !ok {
					s.failure = errors.Join(s.failure, fmt.Errorf("panic: %v", p))
				}
			}
		}()
		f(s)
	}()
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		last()
	}
	return s.failure
}

// Helper does nothing.
func (s *session) Helper() {}

// Cleanup has f called at the end.
func (s *session) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// Logf prints to standard error.
func (s *session) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Error notes a failure.
func (s *session) Error(args ...any) {
	s.failure = errors.Join(s.failure, errors.New(fmt.Sprint(args...)))
}

// Errorf notes a failure.
func (s *session) Errorf(format string, args ...any) { s.Error(fmt.Sprintf(format, args...)) }

// Fatal notes a failure and ends the run.
func (s *session) Fatal(args ...any) {
	s.Error(args...)
	panic(aborted{})
}

// Fatalf notes a failure and ends the run.
func (s *session) Fatalf(format string, args ...any) { s.Fatal(fmt.Sprintf(format, args...)) }

// Failed tells whether something went wrong.
func (s *session) Failed() bool { return s.failure != nil }
