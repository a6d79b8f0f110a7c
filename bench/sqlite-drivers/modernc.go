//go:build modernc

package main

import "modernc.org/sqlite"

const driverName = "modernc"

func open(path string) (conn, error) {
	if _, err := sqlite.Fdatasync(true); err != nil {
		return nil, err
	}
	return openSQL("sqlite", "file:"+path+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+
		"&_pragma=cache_size(-32768)&_pragma=wal_autocheckpoint(4000)")
}
