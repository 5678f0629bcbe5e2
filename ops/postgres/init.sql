-- Run once, as the superuser, when docker-compose.yml's database is made: the control plane's own role,
-- which owns its database and nothing else. A superuser could switch off the rules that protect the
-- audit log. The password comes from the environment (psql 15 and later), and is in no argument.
\getenv password KEYGATE_DATABASE_PASSWORD
CREATE ROLE keygate LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
CREATE DATABASE keygate OWNER keygate;
REVOKE ALL ON DATABASE keygate FROM PUBLIC;
