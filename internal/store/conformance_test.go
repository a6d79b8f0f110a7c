package store_test

import (
	"testing"

	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.SQLite)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	storetest.Run(t, storetest.Postgres)
}

// TestNarrow runs searches as if each estate in them were a large one.
func TestNarrow(t *testing.T) {
	t.Parallel()
	narrow := func(fresh func(testing.TB) storetest.Database) func(testing.TB) storetest.Database {
		return func(t testing.TB) storetest.Database {
			t.Helper()
			return fresh(t).Changed(store.Narrow)
		}
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		storetest.RunSearch(t, narrow(storetest.SQLite))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		storetest.NeedPostgres(t)
		storetest.RunSearch(t, narrow(storetest.Postgres))
	})
}
