package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
)

// session is the testbed's T of a program that is no test: it ends what was started, and stops at the first error. Safe for
// concurrent use; a goroutine that may call Fatal is run through guard.
type session struct {
	mu       sync.Mutex // guards the fields; held for assignments only
	cleanups []func()
	failure  error
}

// aborted is what Fatal panics with, so that run can end what was started.
type aborted struct{}

// run calls f and then the clean-ups, and returns what went wrong.
func (s *session) run(f func(s *session)) error {
	_ = guard(func() error { // noted
		f(s)
		return nil
	}, s.note)
	for {
		last := s.pop()
		if last == nil {
			return s.failure
		}
		last()
	}
}

// pop takes the last clean-up.
func (s *session) pop() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cleanups) == 0 {
		return nil
	}
	last := s.cleanups[len(s.cleanups)-1]
	s.cleanups = s.cleanups[:len(s.cleanups)-1]
	return last
}

// guard calls f and hands panics to note, but for those of Fatal, which were noted when they happened.
func guard(f func() error, note func(error)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(aborted); !ok {
				note(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
			err = errAborted
		}
	}()
	return f()
}

var errAborted = errors.New("given up")

func (s *session) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = errors.Join(s.failure, err)
}

// Helper does nothing.
func (s *session) Helper() {}

// Cleanup has f called at the end.
func (s *session) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// Logf prints to standard error.
func (s *session) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Error notes a failure.
func (s *session) Error(args ...any) {
	s.note(errors.New(fmt.Sprint(args...)))
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
func (s *session) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure != nil
}
