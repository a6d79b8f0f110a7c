package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a running program. It leads its own process group; Kill and Stop end the whole group.
type Process struct {
	name string
	log  string // file with what it wrote
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// Program is what to start.
type Program struct {
	Name string // of the log file and in messages
	Path string
	Args []string
	Env  []string // added to the environment of the tests
	Dir  string   // working directory, and the folder of the log; made when missing
}

// spawner starts every process from one thread that never ends: the kernel sends the parent-death signal when the
// *thread* that started the child goes, and threads of the Go runtime come and go.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start starts a program and registers its end with the test, which shows the end of its log when the test failed.
func Start(t T, p Program) *Process {
	t.Helper()
	proc, err := start(p)
	if err != nil {
		t.Fatalf("start %s: %v", p.Name, err)
	}
	t.Cleanup(func() { proc.finish(t) })
	return proc
}

// finish ends the process with its test, and shows what it said when the test failed.
func (p *Process) finish(t T) {
	p.Kill()
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", p.name, p.Tail())
	}
}

func start(p Program) (*Process, error) {
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make its folder: %w", err)
	}
	log := filepath.Join(p.Dir, p.Name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open its log: %w", err)
	}
	defer out.Close() // the child has its own descriptor
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	proc := &Process{name: p.Name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		proc.err = cmd.Wait()
		close(proc.done)
	}()
	return proc, nil
}

// Pid returns the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the whole group at once, as a power cut would, and waits for it.
func (p *Process) Kill() {
	select {
	case <-p.done: // its number may be somebody else's by now
	default:
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
		<-p.done
	}
}

// Stop asks the process to end and kills the group when it has not within patience.
func (p *Process) Stop(patience time.Duration) error {
	_ = syscall.Kill(p.Pid(), syscall.SIGTERM)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		var exit *exec.ExitError
		if errors.As(p.err, &exit) {
			return fmt.Errorf("%s ended with %w", p.name, p.err)
		}
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %s", p.name, patience)
	}
}

// Log returns everything that the process wrote.
func (p *Process) Log() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Tail returns the last lines of what the process wrote.
func (p *Process) Tail() string {
	const most = 6000
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(data) > most {
		data = data[len(data)-most:]
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			data = data[i+1:]
		}
	}
	return string(data)
}

// CPU returns the processor time that the process has used so far.
func (p *Process) CPU() (time.Duration, error) {
	return cpuTime(p.Pid())
}

// Resident returns the process's resident memory in bytes.
func (p *Process) Resident() (int64, error) {
	return residentBytes(p.Pid())
}

// Await polls check until it returns nil, and fails when ctx ends or the process does. The error says what check said
// last.
func (p *Process) Await(ctx context.Context, check func(context.Context) error) error {
	err := Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		select {
		case <-p.done:
			return Final(fmt.Errorf("%s ended: %w\n%s", p.name, p.ended(), p.Tail()))
		default:
			return check(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", p.name, err)
	}
	return nil
}

func (p *Process) ended() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}
