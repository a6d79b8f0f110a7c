// Package group runs named tasks together: the first error stops all, a panic becomes an error, and those that were
// added last stop first. Only server starts tasks, and only through a Group.
//
// It must never start a goroutine that nobody waits for.
package group

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Task is a long-lived part of the process. Run blocks until ctx ends or the task cannot go on; it returns nil
// or ctx's error for an orderly end.
type Task struct {
	Name string
	Run  func(ctx context.Context) error
}

// Group is a list of tasks. The zero value is ready to use; it is not safe for concurrent use.
type Group struct {
	tasks []Task
}

// Add appends a task. Tasks are started in the order of Add and stopped in the reverse order, each one only after
// those behind it have ended, so that a listener added last drains while the storage below it still works.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.tasks = append(g.tasks, Task{Name: name, Run: run})
}

type ended struct {
	index int
	err   error
}

// Run starts all tasks and blocks until all have ended. It begins to stop them when ctx ends or when any of them
// ends by itself. A task that takes longer than grace to stop is reported and no longer waited for. The errors of
// all tasks are joined, each with the task's name; ctx's own end is not an error.
func (g *Group) Run(ctx context.Context, grace time.Duration) error {
	done := make(chan ended, len(g.tasks))
	cancels := make([]context.CancelFunc, len(g.tasks))
	for i, task := range g.tasks {
		// Each task has a context of its own: it ends in turn, not when ctx does.
		taskCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i] = cancel
		go func() { done <- ended{i, guard(taskCtx, task)} }()
	}
	finished := make([]bool, len(g.tasks))
	var errs []error
	note := func(e ended) {
		finished[e.index] = true
		if e.err != nil && !errors.Is(e.err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", g.tasks[e.index].Name, e.err))
		}
	}
	if len(g.tasks) > 0 {
		select {
		case <-ctx.Done():
		case e := <-done:
			note(e)
		}
	}
	for i := len(g.tasks) - 1; i >= 0; i-- {
		cancels[i]()
		if err := await(done, finished, i, grace, note); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.tasks[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

// await waits until task i has ended, noting whatever else ends meanwhile.
func await(done <-chan ended, finished []bool, i int, grace time.Duration, note func(ended)) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for !finished[i] {
		select {
		case e := <-done:
			note(e)
		case <-timer.C:
			return fmt.Errorf("still running %s after it was told to stop", grace)
		}
	}
	return nil
}

func guard(ctx context.Context, task Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return task.Run(ctx)
}
