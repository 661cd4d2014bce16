"""What Menagerie adds to Airflow's pages."""
